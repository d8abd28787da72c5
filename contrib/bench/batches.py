"""Batches of tasks, brought onto main by several sides in turns, in repositories that are equal."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import median

from beds import Cost, rounded
from swarms import PATIENCE_SECONDS, Open, Side, ours, shell


@dataclass(frozen=True, slots=True)
class Work:
    """So many tasks, dropped at once, in a repository of so many files.

    With `warm`, a batch of the same size goes ahead of the one that is measured.
    """

    tasks: int
    files: int
    warm: bool


SMALL = Work(tasks=40, files=100, warm=False)
BIG = Work(tasks=8, files=20_000, warm=True)


def in_turns(
    folder: Path,
    work: Work,
    sides: Mapping[str, Open],
    runs: int,
    seconds: float = PATIENCE_SECONDS,
) -> dict[str, list[Cost]]:
    """Measure every side so many times, in turns, each batch `seconds` at most.

    Warm sides keep their beds throughout; else every batch has a new one.
    """
    found: dict[str, list[Cost]] = {name: [] for name in sides}
    with ExitStack() as stack:
        warm: dict[str, Side] = {}
        if work.warm:
            for name, side in sides.items():
                warm[name] = stack.enter_context(side(folder / name, work.files))
                _take(name, "to warm it", warm[name], work, seconds)
        for run in range(runs):
            for name, side in sides.items():
                if name in warm:
                    cost = _take(name, "", warm[name], work, seconds)
                else:
                    with side(folder / f"{name}-{run}", work.files) as bed:
                        cost = _take(name, "", bed, work, seconds)
                found[name].append(cost)
    return found


def _take(name: str, why: str, bed: Side, work: Work, seconds: float) -> Cost:
    bed.settle()
    os.sync()  # what went before is not to be written back at this batch's cost
    cost = bed.batch(work.tasks, seconds)
    told = f"  {name}: {cost.seconds:.2f} s, {cost.landed} of {cost.dropped} landed {why}"
    print(told.rstrip(), file=sys.stderr, flush=True)
    return cost


def document(work: Work, costs: Mapping[str, list[Cost]]) -> dict[str, object]:
    """Return what every side took."""
    found: dict[str, object] = {"tasks": work.tasks, "files": work.files, "warm": work.warm}
    for name, side in costs.items():
        found[name] = {
            "seconds": rounded([cost.seconds for cost in side]),
            "cpu_seconds": rounded([cost.cpu_seconds for cost in side]),
            "landed": [cost.landed for cost in side],
            "capped": any(cost.capped for cost in side),
            "median_seconds": middle(side),
        }
    return found


def middle(costs: list[Cost]) -> float | None:
    """Return the median of the seconds for all tasks, None where tasks were lost."""
    seconds = median(cost.whole for cost in costs)
    return round(seconds, 3) if isfinite(seconds) else None


def against_git(folder: Path, work: Work, runs: int) -> dict[str, object]:
    """Measure the daemon against plain git; the ratios are those of the medians."""
    costs = in_turns(folder, work, {"git": shell, "ours": ours}, runs)
    found = document(work, costs)
    for unit in ("seconds", "cpu_seconds"):
        mine, plain = (
            median(getattr(cost, unit) for cost in costs[side]) for side in ("ours", "git")
        )
        found[f"{unit}_ratio"] = round(mine / plain, 3)
    return found
