"""Drive the integrator's real decisions with simulated tests, and compare with published figures.

    python contrib/queue/simulate.py [--trials N] [--tasks N] [--flake-rate P] [--jitter J] [--json]

Nothing is run: a test is an entry in a heap of end times, its answer is known beforehand. The first
table has the conditions of the published one, the second counts everything. Exits 1 if a figure
of the first is more than a tenth worse than its published one. See README.md.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from heapq import heappop, heappush
from random import Random
from statistics import mean
from typing import Any

from alluvium_like.stages.integrate.train import (
    FIRST_FAILURE_RATE,
    Car,
    Train,
    next_steps,
    room,
    updated_rate,
)

TASKS = 64
TRIALS = 400
BATCH = 16
CHAIN = 8
RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
SLOTS = (1, 2, 4, 8)
TOLERANCE = 1.1

# Runs and wall time in units of one run, by failure rate; 64 tasks, 400 trials.
PUBLISHED: dict[str, dict[float, tuple[float, float]]] = {
    "serial": dict.fromkeys(RATES, (64, 64)),
    "bisect": {0.02: (14, 14), 0.05: (25, 25), 0.1: (44, 44), 0.2: (67, 67), 0.4: (97, 97)},
    "chain": {0.02: (69, 8.9), 0.05: (76, 9.9), 0.1: (90, 12), 0.2: (121, 16), 0.4: (201, 27)},
    "W=1": {0.05: (19, 19)},
    "W=2": {0.02: (12, 6.1), 0.05: (25, 12.5), 0.1: (38, 21), 0.2: (56, 35), 0.4: (80, 40)},
    "W=4": {0.02: (16, 4.7), 0.05: (33, 9.0), 0.1: (50, 17), 0.2: (86, 22), 0.4: (116, 30)},
    "W=8": {0.02: (28, 4.2), 0.05: (48, 8.7), 0.1: (86, 12), 0.2: (121, 16), 0.4: (202, 27)},
}


@dataclass(frozen=True)
class Conditions:
    """What is simulated.

    `settled`: the failure rate is known, and neither a confirming run nor one of the base counts.
    `jitter`: tests take between 1 - jitter and 1 + jitter; at 0 all of a round end together.
    """

    settled: bool
    flake_rate: float = 0.0
    jitter: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What one queue cost: `runs` were started, of which `given_up` did not end."""

    runs: float
    wall: float
    given_up: float = 0
    flakes: float = 0
    innocent: float = 0


def serial(bad: Sequence[bool]) -> Outcome:
    """Test one task after the other."""
    return Outcome(len(bad), len(bad))


def bisect(bad: Sequence[bool], batch: int = BATCH) -> Outcome:
    """Test batches, one at a time; what is red is split in two, and both halves are tested."""

    def runs(tasks: Sequence[bool]) -> int:
        if len(tasks) == 1 or not any(tasks):
            return 1
        middle = len(tasks) // 2
        return 1 + runs(tasks[:middle]) + runs(tasks[middle:])

    count = sum(runs(bad[start : start + batch]) for start in range(0, len(bad), batch))
    return Outcome(count, count)


def chain(bad: Sequence[bool], width: int = CHAIN) -> Outcome:
    """Test each of the first tasks on those before it; what stands behind a red one starts over."""
    runs = wall = done = 0
    while done < len(bad):
        ahead = bad[done : done + width]
        runs += len(ahead)
        wall += 1
        done += ahead.index(True) + 1 if any(ahead) else len(ahead)
    return Outcome(runs, wall)


@dataclass
class Lane:
    """The integrator's lane with only its decisions left in it; at its start all tasks wait."""

    bad: Sequence[bool]
    rate: float
    slots: int
    conditions: Conditions
    random: Random
    now: float = 0.0
    runs: int = 0
    given_up: int = 0
    innocent: int = 0
    train: Train = field(default_factory=lambda: Train("base"))
    good: dict[str, bool] = field(default_factory=lambda: {"base": True})
    under_way: set[str] = field(default_factory=set)
    ends: list[tuple[float, int, str]] = field(default_factory=list)

    def drain(self) -> Outcome:
        """Land or blame every task."""
        settled = self.conditions.settled
        ready = list(range(len(self.bad)))
        rate = self.rate if settled else FIRST_FAILURE_RATE
        while ready or self.train.cars:
            landed = self.train.proven
            self.train = self.train.moved_up(landed)
            if not settled:
                rate = updated_rate(rate, passed=landed)
            coupled = ready[: room(self.train, rate, self.slots)]
            del ready[: len(coupled)]
            self._couple(coupled)
            culprit = self._follow()
            if culprit is None:
                self._await_a_test()
                continue
            if not settled:
                rate = updated_rate(rate, blamed=1)
            behind = self.train.cars[culprit - 1 :]
            self.innocent += not self.bad[int(behind[0].task_id)]
            self.train = self.train.shortened(culprit - 1)
            ready = [int(car.task_id) for car in behind[1:]] + ready
        flakes = sum(runs.flaky for runs in self.train.runs.values())
        return Outcome(self.runs, self.now, self.given_up, flakes, self.innocent)

    def _couple(self, tasks: Iterable[int]) -> None:
        cars = []
        below = self.train.top
        for task in tasks:
            commit = f"c{len(self.good)}"
            self.good[commit] = self.good[below] and not self.bad[task]
            cars.append(Car(str(task), commit, commit))
            below = commit
        self.train = self.train.extended(*cars)

    def _follow(self) -> int | None:
        """Do what the train asks for; return the position that it blames."""
        while True:
            positions = {self.train.commit(p): p for p in range(len(self.train.cars) + 1)}
            self._give_up(self.under_way - positions.keys())
            steps = next_steps(self.train, {positions[c] for c in self.under_way}, self.slots)
            if steps.base_is_red:
                # It is green, so these were flakes: the person who is called resumes the lane.
                self.train = self.train.recorded(self.train.base, passed=True)
                continue
            self._give_up({self.train.commit(position) for position in steps.give_up})
            free = [self._start(self.train.commit(position)) for position in steps.start]
            if not any(free):
                return steps.blamed

    def _start(self, commit: str) -> bool:
        """Start a test; tell whether it was one for nothing, which has ended already."""
        is_base = commit == self.train.base
        if self.conditions.settled and (is_base or self.train.runs.get(commit)):
            self.train = self.train.recorded(commit, passed=is_base)
            return True
        self.runs += 1
        self.under_way.add(commit)
        length = 1 + self.conditions.jitter * self.random.uniform(-1, 1)
        heappush(self.ends, (self.now + length, self.runs, commit))
        return False

    def _give_up(self, commits: set[str]) -> None:
        self.given_up += len(commits)
        self.under_way -= commits
        self.ends = sorted(end for end in self.ends if end[2] not in commits)

    def _await_a_test(self) -> None:
        """Let time pass until the next test ends, and all that end with it."""
        if not self.ends:
            return
        self.now = self.ends[0][0]
        while self.ends and self.ends[0][0] == self.now:
            commit = heappop(self.ends)[2]
            self.under_way.discard(commit)
            flake = self.random.random() < self.conditions.flake_rate
            self.train = self.train.recorded(commit, passed=self.good[commit] and not flake)


def averaged(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the mean of each figure."""
    rows = [asdict(outcome) for outcome in outcomes]
    return Outcome(**{name: mean(row[name] for row in rows) for name in rows[0]})


def prefix(
    rate: float, slots: int, conditions: Conditions, *, seed: int, trials: int, tasks: int = TASKS
) -> Outcome:
    """Return the mean cost of the real algorithm."""
    return averaged(
        [
            Lane(bad, rate, slots, conditions, Random(f"{seed} {slots} {trial}")).drain()
            for trial, bad in enumerate(queues(rate, seed=seed, trials=trials, tasks=tasks))
        ]
    )


def queues(rate: float, *, seed: int, trials: int, tasks: int) -> list[list[bool]]:
    """Return for each trial which tasks are bad; every algorithm is given the same.

    A Latin hypercube sample: the tasks of one trial fail independently, and over all trials each
    place in the queue fails as often as the rate says, so luck in it moves no figure.
    """
    random = Random(f"{seed} {rate}")
    columns = []
    for _ in range(tasks):
        strata = random.sample(range(trials), trials)
        columns.append([(stratum + random.random()) / trials < rate for stratum in strata])
    return [list(row) for row in zip(*columns, strict=True)]


def within(outcome: Outcome, published: tuple[float, float]) -> bool:
    """Tell whether runs and wall time are within a tenth of what was published, or better."""
    return outcome.runs <= TOLERANCE * published[0] and outcome.wall <= TOLERANCE * published[1]


References = dict[str, Callable[[Sequence[bool]], Outcome]]
REFERENCES: References = {"serial": serial, "bisect": bisect, "chain": chain}


def simulated(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row for each failure rate and algorithm."""
    rows: list[dict[str, Any]] = []
    size = {"seed": args.seed, "trials": args.trials, "tasks": args.tasks}
    honest = Conditions(settled=False, flake_rate=args.flake_rate, jitter=args.jitter)
    for rate in RATES:
        bads = queues(rate, **size)
        for name, algorithm in REFERENCES.items():
            outcome = averaged([algorithm(bad) for bad in bads])
            rows.append(_row(rate, name, outcome, None, args.tasks))
        for slots in SLOTS:
            outcome = prefix(rate, slots, Conditions(settled=True), **size)
            whole = prefix(rate, slots, honest, **size)
            rows.append(_row(rate, f"W={slots}", outcome, whole, args.tasks))
    return rows


def _row(
    rate: float, name: str, outcome: Outcome, honest: Outcome | None, tasks: int
) -> dict[str, Any]:
    published = PUBLISHED[name].get(rate) if tasks == TASKS else None
    return {
        "failure_rate": rate,
        "algorithm": name,
        "runs": round(outcome.runs, 2),
        "wall": round(outcome.wall, 2),
        "published": published,
        "within": None if published is None else within(outcome, published),
        "honest": honest and {name: round(value, 2) for name, value in asdict(honest).items()},
    }


def printed(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Print the tables for people."""
    print(f"{args.tasks} tasks, {args.trials} trials, seed {args.seed}; runs/wall in test runs\n")
    print("The published conditions: failure rate known, confirming runs not counted\n")
    _table(rows, list(PUBLISHED), _cost)
    print("\nMore (+) or less (-) than published, in %; `ok` is within a tenth or better\n")
    _table(rows, list(PUBLISHED), _difference)
    print(
        "\nThe honest total: learning from 1 in 100, every run counted;"
        f" flake rate {args.flake_rate}, jitter {args.jitter}\n"
    )
    columns = [f"W={slots}" for slots in SLOTS]
    _table(rows, columns, lambda row: _cost(row["honest"]))
    if args.jitter or args.flake_rate:
        print("\nOf that: runs given up / flakes seen / innocent tasks blamed\n")
        _table(rows, columns, _waste)


def _table(
    rows: list[dict[str, Any]], columns: list[str], cell: Callable[[dict[str, Any]], str]
) -> None:
    print("| rate | " + " | ".join(f"{column:>14}" for column in columns) + " |")
    print("|---:" * (len(columns) + 1) + "|")
    for rate in RATES:
        found = {row["algorithm"]: row for row in rows if row["failure_rate"] == rate}
        cells = (f"{cell(found[column]):>14}" for column in columns)
        print(f"| {rate:4} | " + " | ".join(cells) + " |")


def _cost(row: dict[str, Any]) -> str:
    return f"{row['runs']:.1f}/{row['wall']:.1f}"


def _difference(row: dict[str, Any]) -> str:
    if row["published"] is None:
        return "-"
    pairs = zip((row["runs"], row["wall"]), row["published"], strict=True)
    more = "/".join(f"{100 * (ours / theirs - 1):+.0f}" for ours, theirs in pairs)
    return f"{more} {'ok' if row['within'] else 'WORSE'}"


def _waste(row: dict[str, Any]) -> str:
    honest = row["honest"]
    return f"{honest['given_up']:.1f}/{honest['flakes']:.1f}/{honest['innocent']:.2f}"


def main() -> int:
    """Print what was simulated; return 1 if it is worse than published."""
    parser = argparse.ArgumentParser(description="Simulate the merge queue.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--tasks", type=int, default=TASKS, help="published for 64 only")
    parser.add_argument("--flake-rate", type=float, default=0.0, help="a good commit's red runs")
    parser.add_argument("--jitter", type=float, default=0.0, help="tests take 1 - J to 1 + J")
    parser.add_argument("--json", action="store_true", help="one document for scripts")
    args = parser.parse_args()
    if not (0 <= args.flake_rate < 1 and 0 <= args.jitter < 1 and min(args.trials, args.tasks) > 0):
        parser.error("rates and jitter are from 0 up to 1, trials and tasks at least 1")
    rows = simulated(args)
    if args.json:
        json.dump({"conditions": vars(args), "rows": rows}, sys.stdout, indent=2)
        print()
    else:
        printed(rows, args)
    return int(any(row["within"] is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
