"""What lies in the tree: no stray file, none too large to read, no unfinished mark; and what the README says is so."""

import ast
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from fanout.config import Config

ROOT = Path(__file__).parents[2]
CODE = {".py", ".pyx", ".pyi", ".pxd", ".rs", ".c", ".h", ".go", ".js", ".mjs", ".html", ".css"}
TEXT = CODE | {".typed", ".txt", ".md", ".toml", ".json", ".svg", ".lock", ".mod", ".sum", ".xml", ".conf", ""}
LINES_MAX = 600


def tracked() -> list[Path]:
    """The files under version control; none where the tree was unpacked without it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


FILES = tracked()
pytestmark = pytest.mark.skipif(not FILES, reason="needs the version control's list of files")


def test_no_file_is_generated_forgotten_or_of_an_unknown_kind() -> None:
    assert [path for path in FILES if path.suffix not in TEXT] == []


def test_no_file_of_code_is_too_long_to_read() -> None:
    assert [path for path in FILES if path.suffix in CODE and len(path.read_text().splitlines()) > LINES_MAX] == []


def test_nothing_is_left_unfinished() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError|unimplemented!|todo!)")
    code = [path for path in FILES if path.suffix in CODE and path != Path(__file__)]
    assert [path for path in code if marks.search(path.read_text())] == []


class TestReadme:
    TEXT = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""

    def test_its_make_targets_exist(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(re.findall(r"`[^`]+`|```.*?```", self.TEXT, re.DOTALL))))
        assert named <= targets
        assert {"serve", "test"} <= named

    def test_its_flags_exist(self) -> None:
        commands = "\n".join(
            line for line in self.TEXT.splitlines() if "fanout serve" in line or "fanout check" in line
        )
        flags = {"--" + field.name.replace("_", "-") for field in fields(Config)} | {"--config", "--help"}
        assert set(re.findall(r"--[a-z][a-z-]+", commands)) <= flags

    def test_its_python_is_python(self) -> None:
        snippets = re.findall(r"```python\n(.*?)```", self.TEXT, re.DOTALL)
        assert snippets
        for snippet in snippets:
            compile(snippet, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
