"""The table of numbered errors: each is raised somewhere, and whatever is raised is in it."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[2]
TABLE: list[dict[str, Any]] = orjson.loads((ROOT / "fanout/errors.json").read_bytes())


def sources() -> Iterator[str]:
    for pattern in ("fanout/**/*.py", "fanout/**/*.pyx", "rust/*/src/**/*.rs"):
        for path in ROOT.glob(pattern):
            yield path.read_text()


def test_table_is_in_order_and_each_code_stands_once() -> None:
    codes = [entry["code"] for entry in TABLE]
    assert codes == sorted(set(codes))


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: str(entry["code"]))
def test_entry_is_complete_and_used(entry: dict[str, Any]) -> None:
    assert set(entry) == {"code", "status", "message"}
    assert HTTPStatus(entry["status"]).value >= 400
    assert entry["message"][0].islower()
    assert not entry["message"].endswith(".")
    assert any(re.search(rf"\b{entry['code']}\b", text) for text in sources())


def test_every_error_that_the_code_raises_is_in_the_table() -> None:
    raised = {int(code) for text in sources() for code in re.findall(r"\berror\((\d{5})\b", text)}
    assert raised <= {entry["code"] for entry in TABLE}
    assert raised
