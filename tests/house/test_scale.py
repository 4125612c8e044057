"""docs/scale.md shows what the model says."""

import re

import pytest

from benchmarks.scale.__main__ import DOCUMENT, all_tables, filled
from benchmarks.scale.inputs import RESULTS, Inputs

TEXT = DOCUMENT.read_text()


@pytest.fixture(scope="module")
def tables() -> dict[str, str]:
    return all_tables(Inputs.kept())


def test_every_table_is_what_the_command_prints(tables: dict[str, str]) -> None:
    assert filled(TEXT, tables) == TEXT


def test_every_table_has_one_place(tables: dict[str, str]) -> None:
    assert sorted(re.findall(r"<!-- table: (\w+) -->", TEXT)) == sorted(tables)
    assert TEXT.count("<!-- end -->") == len(tables)


def test_results_that_inputs_come_from_are_there() -> None:
    kept = Inputs.kept()
    results = {figure.result for figure in kept.figures} | {check.result for check in kept.checks}
    assert {path.name for path in RESULTS.glob("*.json")} >= results


def test_a_place_without_a_table_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        filled("<!-- table: nothing -->\n<!-- end -->", {})
