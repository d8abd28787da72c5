"""The lane as a state machine: whatever happens around the train, its promises hold.

A task's quality is hidden: it may break the tests, alone or together with another, or make them
flaky. The machine couples, tests, lands and blames as the lane does, and people interfere: they
cancel tasks and move the base, to red commits too.
"""

import itertools
from dataclasses import dataclass, replace
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from alluvium_like.stages.integrate.train import BASE, Car, Train, next_steps, room, updated_rate

LIKELY_WINDOWS = st.sampled_from([0.01, 0.2, 0.5])  # 64, 4 and as many cars as slots
ANY = st.integers(0, 1000)  # taken modulo what there is to choose from


@dataclass
class Item:
    """A task: what the lane knows of it, and what only its tests tell."""

    number: int
    priority: int
    bad: bool
    bad_with: int | None
    conflicts_with: int | None
    flaky: bool
    coupled_at: int = -1
    waited: bool = False  # behind a car it conflicts with

    @property
    def order(self) -> tuple[int, int]:
        return (-self.priority, self.number)


@dataclass(frozen=True)
class Content:
    """What a commit holds: tasks, and what the owner did."""

    tasks: frozenset[int] = frozenset()
    broken: bool = False
    mended: frozenset[int] = frozenset()  # the owner made the tests of these dependable


class LaneMachine(RuleBasedStateMachine):
    """The lane; `flakes` tells whether tasks may be flaky."""

    flakes = False

    @initialize(strict=st.booleans(), slots=st.integers(1, 8), rate=LIKELY_WINDOWS, seed=ANY)
    def opens(self, strict: bool, slots: int, rate: float, seed: int) -> None:
        self.random = Random(seed)
        self.slots, self.rate = slots, rate
        self.items: dict[int, Item] = {}
        self.ready: list[Item] = []
        self.contents = {"base": Content()}
        self.children: dict[tuple[str, int], str] = {}
        self.history: dict[str, list[bool]] = {}
        self.under_way: set[str] = set()
        self.given_up: set[str] = set()  # of these, those whose processes are being ended
        self.train = Train("base", strict=strict)
        self.paused = False
        self.clock = itertools.count()
        self.owners = {"base"}
        self.ended_runs = 0

    # What happens

    @rule(
        priority=st.integers(0, 2),
        quality=st.sampled_from(["good", "good", "bad", "bad together", "flaky"]),
        other=ANY,
        conflicting=st.integers(0, 3).map(lambda n: n == 0),
    )
    def arrives(self, priority: int, quality: str, other: int, conflicting: bool) -> None:
        number = next(self.clock)
        partner = sorted(self.items)[other % len(self.items)] if self.items else None
        item = Item(
            number,
            priority,
            bad=quality == "bad",
            bad_with=partner if quality == "bad together" else None,
            conflicts_with=partner if conflicting else None,
            flaky=self.flakes and quality == "flaky",
        )
        self.items[number] = item
        self.ready.append(item)

    @rule(slots=st.integers(1, 8))
    def goes_on(self, slots: int) -> None:
        """Couple and follow the train, with as many slots as others leave."""
        self.slots = slots
        self.couple()
        self.follow()

    @precondition(lambda self: self.under_way)
    @rule(which=ANY, land=st.booleans())
    def a_test_ends(self, which: int, land: bool) -> None:
        """A test has its result; or one that was given up is gone, and its slot is free."""
        commit = sorted(self.under_way)[which % len(self.under_way)]
        self.under_way.remove(commit)
        if commit in self.given_up:
            self.given_up.remove(commit)
        else:
            self.ended_runs += 1
            passed = self.passes(commit)
            self.history.setdefault(commit, []).append(passed)
            self.train = self.train.recorded(commit, passed=passed)
        if land:
            self.lands()
        self.couple()
        self.follow()

    @rule()
    def lands(self) -> None:
        """Land what is proven; it may have had to wait for the owner."""
        position = self.train.proven
        landed = [self.items[int(car.task_id)] for car in self.train.cars[:position]]
        behind = [self.items[int(car.task_id)] for car in self.train.cars[position:]]
        for n, item in enumerate(landed):
            self.lands_in_order(item, landed[n + 1 :] + behind + self.ready)
            own = self.history.get(self.train.commit(n + 1), [])
            assert any(own) or not (self.train.strict or n + 1 == position)
        self.train = self.train.moved_up(position)
        self.rate = updated_rate(self.rate, passed=position)
        if landed:
            self.paused = False
            self.owners.clear()
        self.base_is_green()

    @precondition(lambda self: self.train.cars)
    @rule(which=ANY)
    def is_cancelled(self, which: int) -> None:
        """One car leaves; those behind it are coupled again."""
        self.leaves(which % len(self.train.cars) + 1)

    @rule(broken=st.booleans())
    def base_moves(self, broken: bool) -> None:
        """The owner commits: nothing of the train is true any more."""
        held = self.contents[self.train.base]
        self.uncouple(BASE)
        commit = f"owner{next(self.clock)}"
        self.contents[commit] = Content(held.tasks, broken, held.tasks)
        self.owners = {commit}
        self.train = Train(commit, strict=self.train.strict)
        self.paused = False

    @rule()
    def config_is_reloaded(self) -> None:
        """Strict or not may change while tests run."""
        self.train = replace(self.train, strict=not self.train.strict)

    def teardown(self) -> None:
        """Everything ends, within as many runs as the tasks that are left allow."""
        if not hasattr(self, "train"):
            return
        left = len(self.ready) + len(self.train.cars)
        # At most two runs of each commit, until a task is judged or the base is mended.
        bound = self.ended_runs + 2 * (left + 1) * (2 * left + 1)
        self.couple()
        self.follow()
        while self.ready or self.train.cars or self.under_way:
            assert self.ended_runs <= bound
            if self.under_way:
                self.a_test_ends(self.random.randrange(1000), land=self.random.random() < 0.5)
                continue
            assert self.paused or self.train.proven, "it waits for nothing"
            if self.paused:
                self.base_moves(broken=False)
            self.lands()
            self.couple()
            self.follow()

    # What the lane does

    def couple(self) -> None:
        """Couple in order: a conflict with what landed is a revision, with a car it is *later*."""
        if self.paused:
            return
        self.ready.sort(key=lambda item: item.order)
        for item in tuple(self.ready):
            if not room(self.train, self.rate, self.slots):
                return
            if self.clashes(item, self.contents[self.train.base].tasks):
                self.ready.remove(item)
            elif self.clashes(item, self.contents[self.train.top].tasks):
                item.waited = True
            else:
                self.ready.remove(item)
                item.coupled_at = next(self.clock)
                commit = self.merge(self.train.top, item)
                self.train = self.train.extended(Car(str(item.number), commit, commit))

    def follow(self) -> None:
        """Do what the train asks for, until there is nothing left but to wait."""
        while not self.paused:
            positions = {self.train.commit(p): p for p in range(len(self.train.cars) + 1)}
            foreign = self.under_way - positions.keys()
            busy = {positions[commit] for commit in self.under_way - foreign}
            steps = next_steps(self.train, busy, self.slots - len(foreign))
            assert steps.give_up <= busy
            assert not busy & set(steps.start)
            self.given_up |= foreign | {self.train.commit(p) for p in steps.give_up}
            wanted = len(steps.start) + len(self.under_way - self.given_up)
            assert not steps.start or wanted <= self.slots
            free = max(self.slots - len(self.under_way), 0)
            for commit in map(self.train.commit, steps.start[:free]):
                self.is_worth_a_run(commit)
                self.under_way.add(commit)
            if steps.base_is_red:
                self.base_is_red()
            elif steps.blamed is not None:
                self.blames(steps.blamed)
                self.couple()
            else:
                unproven = len(self.train.cars) - self.train.proven
                assert self.under_way or not unproven, "it waits for nothing"
                assert unproven or self.under_way == self.given_up, "it tests for nothing"
                return

    def blames(self, position: int) -> None:
        below, commit = self.train.commit(position - 1), self.train.commit(position)
        item = self.items[int(self.train.cars[position - 1].task_id)]
        assert self.history[commit] == [False, False], "a flake is not blamed"
        assert any(self.history[below]), "what it stands on was seen green"
        if not self.flakes:
            assert self.is_green(below)
            assert not self.is_green(commit)
            assert item.bad or self.partners(item) & self.contents[below].tasks
        self.rate = updated_rate(self.rate, blamed=1)
        self.leaves(position)

    def base_is_red(self) -> None:
        assert self.history[self.train.base][-2:] == [False, False]
        assert self.under_way == self.given_up
        if not self.flakes:
            assert self.contents[self.train.base].broken, "the owner broke it, no task"
        self.paused = True

    def leaves(self, position: int) -> None:
        self.uncouple(position)
        self.train = self.train.shortened(position - 1)

    def uncouple(self, position: int) -> None:
        self.ready += [self.items[int(car.task_id)] for car in self.train.cars[position:]]

    # What holds

    def is_worth_a_run(self, commit: str) -> None:
        """Any commit runs once; again only because it was red; never three times.

        The base may be seen again in each search: what it stands on may have broken since.
        """
        if commit == self.train.base:
            known = self.train.at(BASE)
            assert not known.passes
            assert not known.confirmed
        else:
            assert self.history.get(commit, []) in ([], [False])

    def base_is_green(self) -> None:
        """What a task made of the base was tested as it is; it is green unless tests are flaky."""
        if self.train.base not in self.owners:
            assert any(self.history[self.train.base])
            assert self.flakes or self.is_green(self.train.base)

    def lands_in_order(self, item: Item, later: list[Item]) -> None:
        """A task that outranks one landing before it came too late, or had to wait for a car."""
        for other in later:
            assert item.order < other.order or other.number > item.coupled_at or other.waited, (
                "overtaken"
            )

    # What is true

    def merge(self, below: str, item: Item) -> str:
        """Return the commit; the same merge is the same commit."""
        commit = self.children.setdefault((below, item.number), f"c{len(self.children)}")
        held = self.contents[below]
        self.contents[commit] = replace(held, tasks=held.tasks | {item.number})
        return commit

    def clashes(self, item: Item, tasks: frozenset[int]) -> bool:
        return item.conflicts_with in tasks or any(
            self.items[task].conflicts_with == item.number for task in tasks
        )

    def partners(self, item: Item) -> set[int]:
        others = {n for n, other in self.items.items() if other.bad_with == item.number}
        return others if item.bad_with is None else others | {item.bad_with}

    def is_green(self, commit: str) -> bool:
        content = self.contents[commit]
        held = [self.items[task] for task in content.tasks]
        wrong = (item.bad or item.bad_with in content.tasks for item in held)
        return not content.broken and not any(wrong)

    def passes(self, commit: str) -> bool:
        content = self.contents[commit]
        flaky = any(self.items[task].flaky for task in content.tasks - content.mended)
        return self.is_green(commit) and not (flaky and self.random.random() < 0.4)


class FlakyLaneMachine(LaneMachine):
    """The same lane with tests that lie at times."""

    flakes = True


_ALWAYS_THE_SAME = settings(
    max_examples=200,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLane = LaneMachine.TestCase
TestLane.settings = _ALWAYS_THE_SAME
TestFlakyLane = FlakyLaneMachine.TestCase
TestFlakyLane.settings = _ALWAYS_THE_SAME
