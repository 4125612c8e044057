"""Every module says what it exports, and a program writes `from fanout import ...` and no more."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fanout

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "fanout").rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_names_its_exports_and_has_them(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert module.__doc__
    for name in module.__all__:
        assert hasattr(module, name), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_and_classes_that_others_import_are_exported(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    exported = set(importlib.import_module(module).__all__)
    for other in (ROOT / "fanout").rglob("*.py"):
        for node in ast.walk(ast.parse(other.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == module:
                assert {alias.name for alias in node.names} <= exported, other


def test_public_names_can_all_be_imported() -> None:
    for name in fanout.__all__:
        assert getattr(fanout, name).__doc__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fanout.nothing  # noqa: B018


def test_importing_fanout_loads_no_node() -> None:
    code = "import sys, fanout; fanout.Config(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"picows", "confluent_kafka", "uvloop", "fanout._core", "cyclopts"}.isdisjoint(modules)


def test_stub_of_the_bridge_names_what_the_bridge_has() -> None:
    from fanout import _core

    stub = ast.parse((ROOT / "fanout/_core.pyi").read_text())
    for node in stub.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assert hasattr(_core, node.target.id)
        elif isinstance(node, ast.FunctionDef):
            assert callable(getattr(_core, node.name))
        elif isinstance(node, ast.ClassDef):
            declared = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
            assert declared <= set(dir(getattr(_core, node.name)))
