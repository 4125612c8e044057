"""Imports point one way, down the layers of ARCHITECTURE.md, and siblings never import each other."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = [
    {"types", "callbacks", "packets"},
    {"errors"},
    {"config"},
    {"rules"},
    {"_engine"},
    {"_core", "wire"},
    {"delivered", "asking"},
    {"auth", "routing", "namespaces", "shares", "stats", "tasks"},
    {"session"},
    {"transports", "sources", "observe"},
    {"checkpoints", "control", "decoding", "failures", "fetching", "interest", "targets", "unbegun"},
    {
        "backlog",
        "counted",
        "credentials",
        "probes",
        "publish",
        "subscribe",
        "history",
        "lookup",
        "revocations",
        "occupancy",
        "replay",
        "since",
    },
    {"mutate", "presence", "mqtt"},
    {"sandbox"},
    {"node"},
    {"server", "audit"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted(path for path in (ROOT / "fanout").rglob("*.py*") if path.suffix in (".py", ".pyi", ".pyx"))
PUBLIC = {"config", "errors", "types", "server", "subscribe"}  # what fanout/__init__.py gathers


def part_of(path: Path) -> str:
    """The layer's member that a file belongs to: a package, or a module beside the packages."""
    return path.relative_to(ROOT / "fanout").parts[0].split(".")[0]


def imported_parts(path: Path) -> set[str]:
    """The parts of fanout that a file imports, anywhere in it."""
    if path.suffix == ".pyx":
        lines = re.findall(
            r"^\s*(?:from|c?import) +fanout(?:\.(\w+))?(?: +c?import +(\w+))?", path.read_text(), re.MULTILINE
        )
        return {package or name for package, name in lines}
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            parts |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("fanout.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            if node.module == "fanout":
                parts |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith("fanout."):
                parts.add(node.module.split(".")[1])
    return parts


def test_every_part_has_its_layer() -> None:
    assert {part_of(path) for path in MODULES} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    imported = imported_parts(path) - {part}
    if part == "__init__":
        assert imported <= PUBLIC
    else:
        assert {other for other in imported if LEVEL[other] >= LEVEL[part]} == set()


def test_the_engine_crate_knows_no_socket_clock_thread_or_python() -> None:
    forbidden = re.compile(r"\b(std::(net|time::(Instant|SystemTime)|thread|fs|process)|libc|pyo3|unsafe)\b")
    for path in (ROOT / "rust/engine/src").rglob("*.rs"):
        code = re.sub(r"//.*", "", path.read_text())
        assert forbidden.search(code) is None, path
