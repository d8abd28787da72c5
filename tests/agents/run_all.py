"""Tests all agent programs and writes down what they showed.

`python tests/agents/run_all.py [NAME …]` runs the tests of this folder for all programs, or for
those that are named, with the pytest of the Python that runs it. What they showed goes to
results.json; results.md and the table in README are made from that. Exits with 1 where a test
failed or a program is not installed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Xml
from pathlib import Path
from typing import Any

import install

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"
RESULTS, TABLE = HERE / "results.json", HERE / "results.md"
BEGIN = "<!-- real agents: made by tests/agents/run_all.py -->\n"
END = "<!-- end of real agents -->\n"
COLUMNS = {
    "test_what_it_writes_is_merged_and_what_it_tells_is_kept": "its work",
    "test_a_revision_goes_on_with_its_conversation_or_with_the_evidence": "a revision",
    "test_where_nobody_listens_its_agent_is_parked": "nobody listens",
    "test_a_key_that_is_refused_parks_its_agent": "key refused",
    "test_a_burst_of_requests_costs_it_no_attempt": "burst of requests",
    "test_a_used_up_quota_parks_its_agent_beyond_a_restart": "quota used up",
    "test_an_answer_that_breaks_off_is_no_work": "answer breaks off",
    "test_an_endless_answer_ends_at_the_deadline_with_all_processes": "endless answer",
}
Results = dict[str, dict[str, Any]]
"""What each program showed: its version, and for each column the words and why they are odd."""


def run(names: list[str]) -> tuple[Results, bool]:
    """Run the tests of programs; return what they showed and whether all of them passed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        pytest = [sys.executable, "-m", "pytest", str(HERE), f"--junit-xml={report}"]
        environment = {**os.environ, "ALLUVIUM_AGENTS": ",".join(names) or "all"}
        passed = subprocess.run(pytest, cwd=README.parent, env=environment, check=False)
        found = read(report)
    return found, passed.returncode == 0 and not any(map(_lacks_something, found.values()))


def read(report: Path) -> Results:
    """Return what the tests showed, from pytest's report."""
    found: Results = {}
    for case in Xml.parse(report).iter("testcase"):
        test, _, program = case.get("name", "").rstrip("]").partition("[")
        if test not in COLUMNS:
            continue
        told = {each.get("name"): each.get("value") for each in case.iter("property")}
        row = found.setdefault(program, {"version": "", "showed": {}})
        row["version"] = told.get("version") or row["version"]
        words = told.get("showed") or ("not run" if case.find("skipped") is not None else "FAILED")
        row["showed"][COLUMNS[test]] = {"words": words, "why": told.get("why") or ""}
    for row in found.values():  # tests end in any order
        row["showed"] = {each: row["showed"][each] for each in COLUMNS.values()}
    return found


def render(results: Results) -> str:
    """Return the table, with notes below it where a program is not as most are."""
    notes: list[str] = []

    def cell(told: dict[str, str]) -> str:
        if not told["why"]:
            return told["words"]
        if told["why"] not in notes:
            notes.append(told["why"])
        return f"{told['words']} ({notes.index(told['why']) + 1})"

    columns = list(COLUMNS.values())
    lines = [f"| program | version | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 2)}"]
    for name, row in results.items():
        cells = [cell(row["showed"][column]) for column in columns]
        lines.append(f"| {name} | {row['version']} | {' | '.join(cells)} |")
    below = [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    return "\n".join(lines + ([""] if below else []) + below) + "\n"


def part_of_readme() -> str:
    """Return the table that README holds."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0].strip() + "\n"


def write(results: Results) -> None:
    """Write the results and put their table into README."""
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    TABLE.write_text(render(results))
    before, begin, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    assert begin, f"README has no line {BEGIN.strip()}"
    README.write_text(f"{before}{BEGIN}\n{render(results)}\n{END}{after}")


def _lacks_something(row: dict[str, Any]) -> bool:
    return any(told["words"] in {"not run", "FAILED"} for told in row["showed"].values())


def main() -> int:
    """Run, and keep what programs that were not run now showed before."""
    parser = argparse.ArgumentParser(description="Test the agent programs, write down the results.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    found, passed = run(parser.parse_args().names)
    known: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    both = known | found
    write({name: both[name] for name in install.TOOLS if name in both})
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
