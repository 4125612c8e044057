"""`fanout serve`: runs one node in the foreground."""

from typing import Annotated

from cyclopts import Parameter

from fanout.config import Config

__all__ = ["serve"]


def serve(*, config: Annotated[Config | None, Parameter(name="*")] = None) -> int:
    """Runs a node until Ctrl-C. Alone: an embedded log in ./fanout-data, this machine only, a key of its own."""
    import uvloop

    from fanout.cli.foreground import run
    from fanout.observe.logs import configure

    config = config or Config()
    configure(config.log_level)
    return uvloop.run(run(config))
