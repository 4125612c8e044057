"""Where options come from: flags before `FANOUT_*` variables before the TOML file before defaults.

cyclopts merges them into one `Config`; this module adds what it leaves open: which keys a file may have, how one
variable holds several values (a line each, since capabilities and channels may have spaces in them), and that a
fraction is no whole number wherever it is given.
"""

import difflib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin

from cyclopts import App, ArgumentCollection, CoercionError
from cyclopts.config import Dict, Env

from fanout.config import Config
from fanout.errors import ConfigError

__all__ = ["origins", "split_lines"]

NAMES = tuple(field.name for field in fields(Config))

Origin = Callable[[App, tuple[str, ...], ArgumentCollection], None]


def origins(file: Path | None) -> list[Origin]:
    """What cyclopts asks after the flags, in this order. Raises ConfigError for a file that cannot be used."""
    environment = Env("FANOUT_", command=False)
    if file is None:
        return [environment, _refuse_fractions]
    return [environment, Dict(_read(file), use_commands_as_keys=False, source=str(file)), _refuse_fractions]


def split_lines(kind: Any, text: str, **_: Any) -> Sequence[str]:
    """The values in a variable: of an option that may be given again and again each line is one."""
    if get_origin(kind) is not tuple:
        return [text]
    return [line for line in map(str.strip, text.splitlines()) if line]


def _refuse_fractions(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raises CoercionError for a fraction where a whole number belongs; left alone, cyclopts would round it."""
    for argument in arguments:
        if int in (argument.hint, *get_args(argument.hint)):
            for token in argument.tokens:
                if "." in token.value:
                    raise CoercionError(argument=argument, token=token, target_type=int)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            table = tomllib.load(opened)
    except OSError as problem:
        raise ConfigError(f"config: '{file}' cannot be read ({problem.strerror}); name a TOML file") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"config: '{file}' is not TOML: {problem}") from problem
    return {_known(name, file): value for name, value in table.items()}


def _known(name: str, file: Path) -> str:
    option = name.replace("-", "_")
    if option in NAMES:
        return option
    close = difflib.get_close_matches(option, NAMES, 1)
    advice = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(NAMES)}"
    raise ConfigError(f"config: '{name}' in '{file}' is no option; {advice}")
