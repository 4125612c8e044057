"""The tables of docs/scale.md.

python -m benchmarks.scale              prints them
python -m benchmarks.scale --write      puts them into the document
python -m benchmarks.scale --refresh    takes the inputs from the newest results first, and then does that
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks.scale import checks, tables
from benchmarks.scale.inputs import Inputs

__all__ = ["DOCUMENT", "all_tables", "filled"]

DOCUMENT = Path(__file__).parents[2] / "docs/scale.md"
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def all_tables(inputs: Inputs) -> dict[str, str]:
    """Every table by its name in the document."""
    costs = inputs.costs
    return {
        "core": tables.core(costs),
        "plans": tables.plans(costs),
        "reading": tables.reading(costs),
        "interest": tables.interest(),
        "egress": tables.egress(costs),
        "storms": tables.storms(costs),
        "returning": tables.returning(costs),
        "nodes": checks.nodes(inputs),
        "needed": checks.needed(inputs),
        "killed": checks.killed(inputs),
        "inputs": tables.inputs(inputs),
    }


def filled(document: str, contents: dict[str, str]) -> str:
    """The document with the tables in their places. Raises KeyError for a place that no table is for."""
    return PLACE.sub(lambda place: f"{place[1]}{contents[place[2]]}\n{place[3]}", document)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="The tables of docs/scale.md.")
    parser.add_argument("--write", action="store_true", help="put them into docs/scale.md")
    parser.add_argument("--refresh", action="store_true", help="take the inputs from the newest results, and write")
    options = parser.parse_args()
    if options.refresh:
        try:
            Inputs.measured().keep()
        except LookupError as missing:
            print(missing, file=sys.stderr)
            return 1
    contents = all_tables(Inputs.kept())
    if options.write or options.refresh:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(), contents))
    else:
        for name, text in contents.items():
            print(f"{name}:\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
