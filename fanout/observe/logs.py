"""Logs of the command line. A library never configures logging, so only `fanout.cli` calls this."""

import logging
import sys

__all__ = ["LEVELS", "configure"]

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str) -> None:
    """One line an event on stderr, with the time, for the modules of fanout; warnings of all others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("fanout").setLevel(level.upper())
