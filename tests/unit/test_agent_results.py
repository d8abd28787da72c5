"""README's table of agent programs is what their tests showed, in the pinned versions."""

import json

import install
import run_all
from programs import PROGRAMS


def test_the_table_in_readme_is_made_from_the_results() -> None:
    results = json.loads(run_all.RESULTS.read_text())
    assert run_all.TABLE.read_text() == run_all.render(results)
    assert run_all.part_of_readme() == run_all.TABLE.read_text()


def test_the_results_are_those_of_all_programs_in_their_pinned_versions() -> None:
    results = json.loads(run_all.RESULTS.read_text())
    assert {name: row["version"] for name, row in results.items()} == {
        each.name: install.version(each.name) for each in PROGRAMS
    }
    for row in results.values():
        assert list(row["showed"]) == list(run_all.COLUMNS.values())
        assert not {told["words"] for told in row["showed"].values()} & {"not run", "FAILED"}
