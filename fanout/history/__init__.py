"""Looking back: pages of a channel's messages, from memory and beyond it from the log.

`pages` puts a page together, `streams` reads the log for it.
"""

from fanout.history.pages import History

__all__ = ["History"]
