"""Run the whole bench: every measure, what it is measured against, and its bar.

    python contrib/bench/run.py [--only NAME ...] [--runs N] [--quick] [--results PATH]

The table goes to stderr, one JSON document to stdout; each measure is stored as soon as it is
taken, with the machine's description, and plotted where matplotlib is installed. Every ratio is
measured in one run, both sides in turns. See README.md for what each figure means.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import box_cost
import count_git
import first_word
import peer
import plots
import queue_runs
import report
import scale
from batches import BIG, SMALL, Work, against_git
from beds import NotSo, machine, scratch, timed

from alluvium_like.errors import AlluviumError

_TROUBLE = (NotSo, AlluviumError, OSError, sqlite3.Error, subprocess.SubprocessError)
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; `runs` are rounds of the ratios, 0 for each measure's own."""

    small: Work = SMALL
    big: Work = BIG
    runs: int = 0
    drops: int = 20
    big_drops: int = 8
    ready: int = 64
    test_seconds: float = 2.0
    peer_seconds: float = 600.0


QUICK = Effort(
    small=replace(SMALL, tasks=3),
    big=replace(BIG, tasks=2, files=200),
    runs=1,
    drops=2,
    big_drops=1,
    ready=3,
    test_seconds=0.1,
)
Measure = Callable[[Path, Effort], dict[str, object]]


def _first_word(folder: Path, effort: Effort) -> dict[str, object]:
    return {
        name: first_word.measure(folder / name, work.files, drops)
        for name, work, drops in (
            ("small", effort.small, effort.drops),
            ("big", effort.big, effort.big_drops),
        )
    }


MEASURES: dict[str, Measure] = {
    "first-word": _first_word,  # first: after batches the disk writes back what they left
    "batch": lambda folder, effort: against_git(folder, effort.small, effort.runs or 5),
    "big-tree": lambda folder, effort: against_git(folder, effort.big, effort.runs or 3),
    "queue": lambda folder, effort: queue_runs.measure(folder, effort.ready, effort.test_seconds),
    "box": lambda folder, effort: box_cost.measure(folder, effort.drops),
    "git-processes": lambda folder, _: count_git.measure(folder),
    "scale": lambda folder, _: scale.measure(folder),
    "peer": lambda folder, effort: peer.measure(
        folder, effort.small, effort.runs or 3, effort.peer_seconds
    ),
    "peer-big-tree": lambda folder, effort: peer.measure(
        folder, effort.big, effort.runs or 3, effort.peer_seconds
    ),
}
QUICK_MEASURES = ("first-word", "batch", "big-tree", "queue")


@dataclass(frozen=True, slots=True)
class Taken:
    """One measure: its figures, and the machine at that time."""

    figures: dict[str, object]
    seconds: float
    machine: dict[str, object]

    def document(self) -> dict[str, object]:
        """Return what is stored and printed."""
        return {"machine": self.machine, "seconds": round(self.seconds), "figures": self.figures}


def run(name: str, folder: Path, effort: Effort) -> Taken:
    """Take one measure; where it cannot be taken, its figures are the reason."""
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    before = machine(folder)
    figures: dict[str, object] = {}

    def take() -> None:
        try:
            figures.update(MEASURES[name](folder, effort))
        except _TROUBLE as error:
            figures["failed"] = str(error)
            print(f"{name}: {error}", file=sys.stderr)

    seconds = timed(take)
    return Taken(figures, seconds, {**before, "load_after": machine(folder)["load"]})


def options() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="take these measures alone")
    parser.add_argument("--runs", type=int, default=0, help="rounds of each ratio; else 3 or 5")
    parser.add_argument("--quick", action="store_true", help="tiny numbers: does the bench work?")
    parser.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    parser.add_argument(
        "--results", type=Path, help="where to keep them; else results/<date>, and none of --quick"
    )
    return parser.parse_args()


def main() -> int:
    """Take the measures in a scratch folder, store and print them; 1 where one could not be."""
    given = options()
    effort = QUICK if given.quick else replace(Effort(), runs=given.runs)
    names = given.only or (QUICK_MEASURES if given.quick else tuple(MEASURES))
    results = given.results
    if results is None and not given.quick:
        results = RESULTS / date.today().isoformat()
    taken: dict[str, Taken] = {}
    with scratch(given.folder) as folder:
        for name in names:
            place = folder / name
            place.mkdir()
            taken[name] = run(name, place, effort)
            if results is not None:
                report.write(results, name, taken[name].document())
    figures = {name: measure.figures for name, measure in taken.items()}
    measures = {name: measure.document() for name, measure in taken.items()}
    if given.quick:
        print("tiny numbers: the names and bars are those of the whole bench", file=sys.stderr)
    print(report.table(figures), file=sys.stderr, end="")
    print(json.dumps({"measures": measures, "bars": report.judged(figures)}, indent=2))
    if results is not None:
        plots.draw(results)
    return int(any("failed" in found for found in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
