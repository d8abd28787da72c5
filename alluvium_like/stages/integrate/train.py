"""The train: which candidate to test next, what may land, whom to blame. Pure decisions.

The cars are a chain of commits on top of the base, which is position 0; each holds all before it,
so a green car proves those before it too. W-ary prefix search: while nothing is red the tests are
spread evenly, the last car among them; a red car is narrowed down until the one before it is
green. Then its task, and it alone, is at fault, if the very same commit fails once more and the
base does not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

BASE = 0
FIRST_FAILURE_RATE = 0.01
_LONGEST_WINDOW = 64
_WEIGHT = 1 / 32
_EXPECTED_FAILURES = 0.9


@dataclass(frozen=True, slots=True)
class Car:
    """One task's candidate: the commit that would land, and its tree.

    `tests`: what it has to pass beside the tests of all, for its own sake and that of those below.
    """

    task_id: str
    commit: str
    tree: str
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runs:
    """How often the tests of one commit ended green and red; both is a flake, which passes."""

    green: int = 0
    red: int = 0

    @property
    def passes(self) -> bool:
        """Tell whether it was ever green."""
        return self.green > 0

    @property
    def fails(self) -> bool:
        """Tell whether it was red, and never green."""
        return self.red > 0 and not self.green

    @property
    def confirmed(self) -> bool:
        """Tell whether a second run on the same commit was red too."""
        return self.red > 1 and not self.green

    @property
    def flaky(self) -> bool:
        """Tell whether the same commit was seen red and green."""
        return self.red > 0 and self.green > 0


_NEVER = Runs()


@dataclass(frozen=True, slots=True)
class Train:
    """The cars on top of `base`, and what is known of each commit.

    `strict`: every car needs a green run of its own before it may land. `green_since`: what passed
    since the search for a red car began. What is known of the base from before proves nothing then:
    what the tests stand on, outside the tree, may have broken since.
    """

    base: str
    cars: tuple[Car, ...] = ()
    runs: Mapping[str, Runs] = field(default_factory=dict)
    strict: bool = False
    green_since: frozenset[str] = frozenset()

    @property
    def top(self) -> str:
        """The commit that the next car would stand on."""
        return self.commit(len(self.cars))

    def commit(self, position: int) -> str:
        """Return the commit at a position; that of the base is 0."""
        return self.base if position == BASE else self.cars[position - 1].commit

    def at(self, position: int) -> Runs:
        """Return the runs of the commit at a position."""
        return self.runs.get(self.commit(position), _NEVER)

    @property
    def proven(self) -> int:
        """The position up to which all may land."""
        positions = range(1, len(self.cars) + 1)
        if not self.strict:
            return max((p for p in positions if self.at(p).passes), default=BASE)
        return next((p - 1 for p in positions if not self.at(p).passes), len(self.cars))

    @property
    def failing(self) -> int | None:
        """The first red position above what is proven."""
        above = range(self.proven + 1, len(self.cars) + 1)
        return next((p for p in above if self.at(p).fails), None)

    def recorded(self, commit: str, *, passed: bool) -> "Train":
        """Return the train with one more run of a commit."""
        known = self.runs.get(commit, _NEVER)
        return self.learned(commit, Runs(known.green + passed, known.red + (not passed)))

    def learned(self, commit: str, runs: Runs) -> "Train":
        """Return the train with all that is known of the runs of a commit."""
        searching = self.failing is not None
        now = replace(self, runs={**self.runs, commit: runs})
        if searching and runs.passes:
            return replace(now, green_since=self.green_since | {commit})
        if not searching and now.failing is not None:
            return replace(now, green_since=frozenset()).with_base_in_doubt()
        return now

    def extended(self, *cars: Car) -> "Train":
        """Return the train with more cars at its end."""
        return replace(self, cars=(*self.cars, *cars))

    def shortened(self, length: int) -> "Train":
        """Return the train without the cars behind a position: they are to be coupled again."""
        return replace(self, cars=self.cars[:length])

    def moved_up(self, position: int) -> "Train":
        """Return the train whose cars up to a position have become the base."""
        moved = replace(self, base=self.commit(position), cars=self.cars[position:])
        return moved if self.failing is None else moved.with_base_in_doubt()

    def with_base_in_doubt(self) -> "Train":
        """Return the train whose base has to be seen green again, if it was before the search."""
        if self.base in self.green_since or not self.at(BASE).passes:
            return self
        return replace(self, runs={c: runs for c, runs in self.runs.items() if c != self.base})


@dataclass(frozen=True, slots=True)
class Steps:
    """What follows: positions to test, to give up, and at the end of a search its finding."""

    start: tuple[int, ...] = ()
    give_up: frozenset[int] = frozenset()
    blamed: int | None = None
    base_is_red: bool = False


def next_steps(train: Train, under_way: Collection[int], slots: int) -> Steps:
    """Decide what to do while the positions `under_way` are tested and `slots` may be."""
    low, high = train.proven, train.failing
    if low == BASE and train.at(BASE).confirmed:
        return Steps(give_up=frozenset(under_way), base_is_red=True)
    if high is not None and high == low + 1:
        wanted = _suspects(train, low, high)
        if not wanted:
            return Steps(give_up=frozenset(under_way), blamed=high)
        useful: Collection[int] = wanted
    else:
        useful = range(low + 1, high or len(train.cars) + 1)
        wanted = _unproven(train, useful, under_way, slots)
    give_up = frozenset(p for p in under_way if p not in useful)
    free = slots - (len(under_way) - len(give_up))
    new = [position for position in wanted if position not in under_way]
    return Steps(start=tuple(new[: max(free, 0)]), give_up=give_up)


def room(train: Train, failure_rate: float, slots: int) -> int:
    """Return how many cars may be coupled now: none while a red one is being narrowed down."""
    if train.failing is not None:
        return 0
    return max(window(failure_rate, slots) - len(train.cars), 0)


def window(failure_rate: float, slots: int) -> int:
    """Return how long a train may be: about one failure is expected in it."""
    expected = int(_EXPECTED_FAILURES / max(failure_rate, 1e-9))
    return max(slots, min(expected, _LONGEST_WINDOW))


def updated_rate(failure_rate: float, *, passed: int = 0, blamed: int = 0) -> float:
    """Return the moving average of the failure rate after some more tasks were judged."""
    for failed in [0.0] * passed + [1.0] * blamed:
        failure_rate += _WEIGHT * (failed - failure_rate)
    return failure_rate


def _suspects(train: Train, low: int, high: int) -> list[int]:
    """Return what must run before `high` may be blamed: the base it may owe it to, and itself."""
    wanted = []
    if low == BASE and not train.at(BASE).passes:
        wanted.append(BASE)
    if not train.at(high).confirmed:
        wanted.append(high)
    return wanted


def _unproven(train: Train, positions: range, under_way: Collection[int], slots: int) -> list[int]:
    """Return the untested positions worth a test, the one that tells most first."""
    if train.strict:
        return [p for p in positions if not train.at(p).passes]
    taken = [p for p in positions if p in under_way]
    last = []
    if train.failing is None and positions and positions[-1] not in under_way:
        last = [positions[-1]]
    edges = {positions.start - 1, *taken, *last}
    if not last:
        edges.add(positions.stop)
    return last + _spread(sorted(edges), slots - len(taken) - len(last))


def _spread(edges: list[int], points: int) -> list[int]:
    """Spread points evenly over the gaps between the edges, into the widest first."""
    gaps = [(low, high) for low, high in pairwise(edges)]
    inside = [0] * len(gaps)
    for _ in range(points):
        open_gaps = [i for i, (low, high) in enumerate(gaps) if high - low - 1 > inside[i]]
        if not open_gaps:
            break
        widest = max(open_gaps, key=lambda i: (gaps[i][1] - gaps[i][0]) / (inside[i] + 1))
        inside[widest] += 1
    return [
        low + (high - low) * number // (count + 1)
        for (low, high), count in zip(gaps, inside, strict=True)
        for number in range(1, count + 1)
    ]
