"""Kill the daemon at every named step of a rich life, and in the recovery, and see nothing lost.

    python contrib/faults/sweep.py --all [--jobs N] [--pairs N]
    python contrib/faults/sweep.py --sample --seconds 150 [--seed N]
    python contrib/faults/sweep.py --point claim.rename@1:before[,store.claimed@1:after]

Undisturbed lives tell which steps there are and how a life ends. Then a fresh workspace for every
step, before and after it: the daemon kills itself there, is started again and has to end in the
same state. Pairs and triples kill again at a random step of the recovery. The exit code is 1 where
something was violated; each comes with the command that shows it again. See README.md.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from datetime import date
from functools import reduce
from itertools import repeat
from math import inf
from pathlib import Path

from kills import Ended, Point, disturbed, undisturbed
from scenario import Rich
from scene import Scene

RESULTS = Path(__file__).parent / "results"
_LIVES = 3
_RECOVERY_STEPS = 60
_TRIPLES = 0.25
_MOMENTS = ("before", "after")


class Sweep:
    """Runs disturbed lives in `folder`, `jobs` at a time, and gathers how they ended."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self._folder = folder
        self._jobs = jobs
        self._template: Scene = Rich.template(folder / "template")
        self._wanted: dict[str, object] = {}
        self._steps = 0
        self.ended: list[Ended] = []

    def find_points(self, lives: int = _LIVES) -> list[Point]:
        """Return a kill before and after each step that all undisturbed lives pass.

        Raises SystemExit where those lives are not as they should be.
        """
        passed: list[Counter[str]] = []
        for number in range(lives):
            steps, state = undisturbed(self._template, self._folder / f"life{number}")
            if self._wanted and state != self._wanted:
                raise SystemExit(f"undisturbed lives end differently: {self._wanted}, {state}")
            self._wanted = state
            passed.append(Counter(line.split()[0] for line in steps))
        often = reduce(Counter.__and__, passed)
        self._steps = often.total()
        numbered = ((name, n) for name, times in often.items() for n in range(1, times + 1))
        return sorted(Point(n, name, moment) for name, n in numbered for moment in _MOMENTS)

    def again(self, choose: random.Random, most: int | None) -> Iterator[tuple[Point, ...]]:
        """Yield lives with one more kill, in the recovery of one that is over; now and then two."""
        for _ in range(most) if most is not None else repeat(None):
            known = [ended for ended in self.ended if ended.reached and ended.passed]
            if not known:
                return
            pairs = [ended for ended in known if len(ended.reached) == 2]
            first = choose.choice(pairs if pairs and choose.random() < _TRIPLES else known)
            name, number = choose.choice(first.passed[:_RECOVERY_STEPS]).split()
            yield (*first.reached[:2], Point(int(number), name, choose.choice(_MOMENTS)))

    def run(self, lives: Iterable[tuple[Point, ...]], deadline: float = inf) -> None:
        """Live all these lives; none is begun after the deadline (monotonic)."""
        under_way: set[Future[Ended]] = set()
        todo = enumerate(lives, start=len(self.ended))
        with ProcessPoolExecutor(self._jobs) as pool:
            while True:
                while len(under_way) < self._jobs and time.monotonic() < deadline:
                    number, points = next(todo, (0, ()))
                    if not points:
                        break
                    place = self._folder / str(number)
                    life = pool.submit(disturbed, self._template, place, points, self._wanted)
                    under_way.add(life)
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for life in done:
                    self.ended.append(life.result())
                    _tell(self.ended[-1])

    @property
    def faulty(self) -> list[Ended]:
        """The lives in which something was violated."""
        return [ended for ended in self.ended if ended.faults]

    def document(self) -> dict[str, object]:
        """Return the figures."""
        singles = [ended for ended in self.ended if len(ended.points) == 1]
        return {
            "named steps of a life": self._steps,
            "kills to choose from": self._steps * len(_MOMENTS),
            "kills asked for": len(singles),
            "kills that happened": sum(len(ended.reached) for ended in singles),
            "never reached": [ended.label for ended in singles if not ended.reached],
            "lives with two kills": sum(len(ended.reached) == 2 for ended in self.ended),
            "lives with three kills": sum(len(ended.reached) == 3 for ended in self.ended),
            "violations": {ended.label: list(ended.faults) for ended in self.faulty},
        }


def _tell(ended: Ended) -> None:
    if ended.faults:
        print(f"VIOLATED {ended.label}", *ended.faults, sep="\n    ", file=sys.stderr)
        print(f"    python {sys.argv[0]} --point {ended.label}", file=sys.stderr, flush=True)


def _table(document: dict[str, object]) -> str:
    """Return the figures for people."""
    rows = [(key, len(v) if isinstance(v, list | dict) else v) for key, v in document.items()]
    return "\n".join(
        ["| kills at named steps | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows)]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true", help="every step, then kills in the recovery")
    what.add_argument("--sample", action="store_true", help="as many as there is time for")
    what.add_argument("--point", help="one life: NAME@N:before, more of them after commas")
    parser.add_argument(
        "--seconds", type=float, default=inf, help="how long lives with kills are begun"
    )
    parser.add_argument("--further", type=int, default=500, help="lives with more kills, of --all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="lives at a time")
    parser.add_argument("--folder", type=Path, help="where to work; memory (/dev/shm) is quickest")
    parser.add_argument("--results", type=Path, help="where to keep figures; else results/<date>")
    return parser.parse_args()


def _run(given: argparse.Namespace, folder: Path) -> Sweep:
    choose = random.Random(given.seed)
    sweep = Sweep(folder, given.jobs)
    if given.point:
        sweep.find_points(1)
        sweep.run([tuple(map(Point.parse, given.point.split(",")))])
        return sweep
    points = sweep.find_points()
    if given.sample:
        choose.shuffle(points)
    print(f"{len(points)} kills to choose from, seed {given.seed}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    share = 0.6 if given.sample else 0.8
    sweep.run(((point,) for point in points), begun + share * given.seconds)
    lives = None if given.sample else given.further
    sweep.run(sweep.again(choose, lives), begun + given.seconds)
    return sweep


def main() -> int:
    """Sweep, tell what was seen, and keep the figures of a whole sweep; 1 where all is not well."""
    given = _options()
    folder = Path(tempfile.mkdtemp(prefix="alluvium-faults-", dir=given.folder)).resolve()
    begun = time.monotonic()
    try:
        sweep = _run(given, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    document = {
        "date": date.today().isoformat(),
        "seed": given.seed,
        "seconds": round(time.monotonic() - begun),
        **sweep.document(),
    }
    results = given.results or (RESULTS / date.today().isoformat() if given.all else None)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        (results / "kills.json").write_text(json.dumps(document, indent=2) + "\n")
        (results / "kills.md").write_text(_table(document) + "\n")
    print(_table(document), file=sys.stderr)
    print(json.dumps(document, indent=2))
    return int(bool(sweep.faulty))


if __name__ == "__main__":
    sys.exit(main())
