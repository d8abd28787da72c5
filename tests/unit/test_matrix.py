"""The matrix of faults: each has tests, which exist, and so does what can be taken out."""

import ast
from pathlib import Path

import pytest
import take_out

ROOT = Path(__file__).parents[2]
PROTECTIONS = take_out.read_protections()


def test_every_fault_has_a_test() -> None:
    rows = [int(fault["row"]) for fault in take_out.read_faults()]
    assert rows == list(range(1, 41))
    assert set(rows) <= {protection.row for protection in PROTECTIONS}


def test_the_table_that_people_read_says_what_the_files_say() -> None:
    assert (take_out.HERE / "MATRIX.md").read_text() == take_out.matrix(PROTECTIONS)


@pytest.mark.parametrize("part", sorted({protection.part for protection in PROTECTIONS}))
def test_each_test_is_there_and_each_protection_stands_where_it_is_said_to(part: str) -> None:
    stale = []
    for protection in (p for p in PROTECTIONS if p.part == part):
        file, _, name = protection.test.partition("::")
        defined = {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if name.partition("[")[0] not in defined:
            stale.append(f"{protection.test} is not there")
        if protection.file and (ROOT / protection.file).read_text().count(protection.old) != 1:
            stale.append(f"{protection.fault}: `old` is not once in {protection.file}")
        if protection.file and protection.old == protection.new:
            stale.append(f"{protection.fault}: nothing is taken out")
    assert not stale, "\n".join(stale)
