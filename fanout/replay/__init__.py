"""Resuming from the log: what clients missed beyond what memory holds is read back, and given to them from replays.

`service` says who shares a replay, `reading` fills one, `order` decides what is read next. What they ask of the log is
shared: slices by `shared`, what there is by `bounds`, leader epochs by `doubts`. What they may hold is in `room`.
"""

from fanout.replay.service import Replays

__all__ = ["Replays"]
