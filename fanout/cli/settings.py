"""Where options come from: flags before `FANOUT_*` variables before the TOML file before defaults.

cyclopts merges them into one `Config`; this module adds what it leaves open: which keys a file may have.
"""

import difflib
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from cyclopts.config import Dict, Env

from fanout.config import Config
from fanout.errors import ConfigError

__all__ = ["origins"]

NAMES = tuple(field.name for field in fields(Config))


def origins(file: Path | None) -> list[Dict | Env]:
    """What cyclopts asks after the flags, in this order. Raises ConfigError for a file that cannot be used."""
    environment = Env("FANOUT_", command=False)
    if file is None:
        return [environment]
    return [environment, Dict(_read(file), use_commands_as_keys=False, source=str(file))]


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
