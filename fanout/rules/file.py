"""The file of rules: TOML with `[[route]]` and `[[publish]]` tables, in the order in which they are asked."""

import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from fanout.errors import ConfigError
from fanout.rules.publish import PublishRule
from fanout.rules.route import Rule

__all__ = ["NO_RULES", "RulesFile", "read_rules"]

TABLES: Final = {"route": Rule, "publish": PublishRule}

Table = TypeVar("Table")


class RulesFile(NamedTuple):
    """What a file says."""

    route: tuple[Rule, ...] = ()
    publish: tuple[PublishRule, ...] = ()


NO_RULES: Final = RulesFile()


def read_rules(file: Path) -> RulesFile:
    """The rules in the file. Raises ConfigError that names the table and the field, and says what would be right."""
    try:
        with file.open("rb") as opened:
            tables = tomllib.load(opened)
    except OSError as problem:
        raise ConfigError(f"rules: '{file}' cannot be read ({problem.strerror}); name a TOML file") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ConfigError(f"rules: '{file}' is not TOML: {problem}") from problem
    if strange := next((name for name in tables if name not in TABLES), None):
        raise ConfigError(f"rules: '{strange}' in '{file}' is no table of rules; there are [[route]] and [[publish]]")
    return RulesFile(_tables(file, tables, "route", Rule), _tables(file, tables, "publish", PublishRule))


def _tables(file: Path, tables: dict[str, Any], name: str, kind: type[Table]) -> tuple[Table, ...]:
    listed = tables.get(name, [])
    if not isinstance(listed, list):
        raise ConfigError(f"rules: '{file}' has one [{name}]; write [[{name}]], there may be several")
    return tuple(_table(file, table, f"[[{name}]] {number}", kind) for number, table in enumerate(listed, 1))


def _table(file: Path, table: object, which: str, kind: type[Table]) -> Table:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"rules: {which} in '{file}': {_in_words(str(problem))}") from None


def _in_words(problem: str) -> str:
    """Msgspec's words, without the path that it gives what is wrong in a table that we have named already."""
    text, at, path = problem.rpartition(" - at `$")
    if not at:
        return problem
    field = path.strip("`.")
    return f"{field}: {text}" if field else text
