"""The program `fanout`: reads the options, runs a subcommand, turns what goes wrong into one line and a status.

Statuses: 0 done, 1 it could not run or go on, 2 an option is wrong.

Subcommands import what they need when they run, so that `--help` answers at once.
"""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError

from fanout.cli.audit import audit
from fanout.cli.check import check
from fanout.cli.serve import serve
from fanout.cli.settings import origins, split_lines
from fanout.errors import ConfigError, FanoutError

__all__ = ["run"]

HELP = """Carries Kafka to people: ordered, resumable channels over WebSocket.

`fanout serve` alone starts a node on this machine and says how to publish and watch.

Every option is also a line in a TOML file (--config) and a variable in the environment: FANOUT_PORT is --port. Flags
count before variables, variables before the file. An option that may be repeated has a list in the file, and a line for
each value in its variable."""

DONE = 0
FAILED = 1
MISUSED = 2


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit status."""
    app = _app()
    try:
        status: int | None = app.meta(list(arguments))
    except CycloptsError as problem:
        return _fail(f"{_explained(problem).rstrip('.')}; see fanout --help", MISUSED)
    except ConfigError as problem:
        return _fail(str(problem), MISUSED)
    except (FanoutError, OSError) as problem:
        return _fail(str(problem), FAILED)
    return status or DONE


def _app() -> App:
    app = App(
        name="fanout",
        help=HELP,
        version=_version,
        help_format="markdown",
        default_parameter=Parameter(negative=(), show_default=_worth_showing, env_var_split=split_lines),
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        config=origins(None),
    )
    app.command(serve)
    app.command(check)
    app.command(audit)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[Path | None, Parameter()] = None,
    ) -> int | None:
        """Runs the subcommand that the tokens name.

        Parameters
        ----------
        tokens
            The rest of the command line.
        config
            TOML file with options: port = 9000, route = ["orders=orders:#{key}"], ...
        """
        app.config = tuple(origins(config))
        status: int | None = app(list(tokens))
        return status

    return app


def _version() -> str:
    from importlib.metadata import version

    return version("fanout-engine")


def _worth_showing(default: object) -> str | None:
    """How --help shows a default; nothing where it is empty."""
    return None if default is None or default == () else str(default)


def _explained(problem: CycloptsError) -> str:
    """What cyclopts says, without a guess at the option that only the hyphens in front make alike."""
    text = str(problem)
    guess = re.search(r" Did you mean --(\S+)\?$", text)
    if guess is None or not isinstance(problem, UnknownOptionError):
        return text
    given = (problem.token.keyword or problem.token.value).lstrip("-")
    return text if difflib.get_close_matches(given, [guess[1]]) else text[: guess.start()]


def _fail(text: str, status: int) -> int:
    line = " ".join(text.split())
    print(f"fanout: {line}", file=sys.stderr)  # noqa: T201
    return status
