"""The table of numbered errors: one row a number, complete, in order, and every row of use."""

import ast
from pathlib import Path

import orjson
import pytest

from fanout import errors
from fanout.errors import ClientError, error

PACKAGE = Path(errors.__file__).parent
TABLE = orjson.loads((PACKAGE / "errors.json").read_bytes())


def numbers_raised() -> dict[int, Path]:
    """Every literal number that a call of `error` in the package names, and a file that does."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "error" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, int):
                    found[first.value] = path
    return found


class TestTheTable:
    def test_is_in_the_order_of_its_numbers_and_has_each_once(self) -> None:
        numbers = [row["code"] for row in TABLE]
        assert numbers == sorted(set(numbers))

    def test_gives_each_number_a_status_and_a_text_and_nothing_else(self) -> None:
        for row in TABLE:
            assert set(row) == {"code", "status", "message"}
            assert 400 <= row["status"] < 600
            assert row["message"]
            assert not row["message"].endswith(".")

    def test_gives_numbers_below_60000_the_status_they_begin_with(self) -> None:
        assert all(row["status"] == row["code"] // 100 for row in TABLE if row["code"] < 60_000)

    def test_holds_every_number_that_the_code_names(self) -> None:
        known = {row["code"] for row in TABLE}
        assert {number: str(path) for number, path in numbers_raised().items() if number not in known} == {}


class TestError:
    def test_puts_the_detail_after_the_tables_text(self) -> None:
        info = error(40009, "70000 bytes")
        assert (info.code, info.status, info.message) == (40009, 400, "too large: 70000 bytes")

    def test_is_the_tables_text_alone_without_a_detail(self) -> None:
        assert error(40009).message == "too large"

    def test_of_an_unknown_number_is_a_mistake_of_ours(self) -> None:
        with pytest.raises(KeyError):
            error(12345)

    def test_reads_on_the_wire_as_the_protocol_has_it(self) -> None:
        assert error(90003).to_wire() == {
            "code": 90003,
            "statusCode": 404,
            "message": "not resumed: messages after this position are no longer held",
        }

    def test_is_told_with_its_number_when_raised(self) -> None:
        assert str(ClientError(error(40010, "it is empty"))) == "invalid channel name: it is empty (40010)"
