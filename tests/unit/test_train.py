"""The train's decisions by example: what is tested, lands and is blamed, and what that costs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from alluvium_like.stages.integrate.train import (
    BASE,
    FIRST_FAILURE_RATE,
    Car,
    Runs,
    Steps,
    Train,
    next_steps,
    room,
    updated_rate,
    window,
)


def train_of(length: int, *, green: str = "", red: str = "", strict: bool = False) -> Train:
    """Return a train whose commits are c1, c2 …, on c0; a position named twice ran twice.

    What is green was so after the red: during the search.
    """
    cars = tuple(Car(f"task{n}", f"c{n}", f"tree{n}") for n in range(1, length + 1))
    train = Train("c0", cars, strict=strict)
    for position in red.split():
        train = train.recorded(f"c{position}", passed=False)
    for position in green.split():
        train = train.recorded(f"c{position}", passed=True)
    return train


# What is tested


@pytest.mark.parametrize(
    ("length", "slots", "positions"),
    [
        (8, 1, {8}),
        (8, 2, {4, 8}),
        (8, 4, {2, 4, 6, 8}),
        (64, 4, {16, 32, 48, 64}),
        (3, 8, {1, 2, 3}),
        (1, 4, {1}),
        (0, 4, set()),
    ],
)
def test_tests_are_spread_evenly_the_last_car_first_among_them(
    length: int, slots: int, positions: set[int]
) -> None:
    steps = next_steps(train_of(length), (), slots)
    assert set(steps.start) == positions
    assert len(steps.start) == len(positions)
    assert steps.start[:1] == ((length,) if length else ())


def test_a_red_car_is_narrowed_down_between_it_and_what_is_proven() -> None:
    assert set(next_steps(train_of(16, green="4", red="12"), (), 3).start) == {6, 8, 10}
    assert next_steps(train_of(16, green="8", red="12"), (), 1).start == (10,)
    assert next_steps(train_of(16, green="10", red="12"), (), 4).start == (11,)


def test_results_come_one_by_one_and_only_free_slots_are_filled() -> None:
    train = train_of(8)
    assert next_steps(train, {4, 8}, 2) == Steps()
    # 4 is green: 8 goes on, and the free slot halves what is left.
    assert next_steps(train.recorded("c4", passed=True), {8}, 2) == Steps(start=(6,))
    # 8 is red: 4 still tells something, and so do the widest gaps beside it.
    steps = next_steps(train.recorded("c8", passed=False), {4}, 3)
    assert steps == Steps(start=(2, 6))


def test_tests_that_tell_nothing_any_more_are_given_up_and_free_their_slots() -> None:
    # All below a green car is proven, all above a red one waits.
    steps = next_steps(train_of(16, green="8"), {4, 12, 16}, 3)
    assert steps == Steps(start=(10,), give_up=frozenset({4}))
    steps = next_steps(train_of(16, red="8"), {4, 12, 16}, 3)
    assert steps.give_up == {12, 16}
    assert set(steps.start) == {2, 6}


def test_a_train_that_grows_while_tests_run_is_tested_at_its_new_end_at_once() -> None:
    grown = train_of(12)
    assert next_steps(grown, {4, 8}, 2) == Steps()
    assert next_steps(grown, {8}, 2).start == (12,)
    assert next_steps(grown, {8}, 3).start == (12, 4)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 3, 8])
@pytest.mark.parametrize("red", ["", "9", "1", "9 5"])
def test_never_more_tests_than_slots(strict: bool, slots: int, red: str) -> None:
    for busy in ((), (3,), (3, 9), (2, 4, 6)):
        steps = next_steps(train_of(9, red=red, strict=strict), busy, slots)
        kept = len(busy) - len(steps.give_up)
        assert not steps.start or kept + len(steps.start) <= slots
        assert not set(steps.start) & set(busy)


# What may land


def test_a_green_car_proves_those_before_it() -> None:
    train = train_of(8, green="3 5", red="7")
    assert train.proven == 5
    assert train.failing == 7
    landed = train.moved_up(5)
    assert (landed.base, landed.proven, landed.failing) == ("c5", BASE, 2)
    assert landed.at(BASE).passes


def test_a_red_car_below_a_green_one_lands_with_it() -> None:
    """What lands is the commit that was tested: the later task mended the earlier one."""
    train = train_of(4, green="4", red="2")
    assert (train.proven, train.failing) == (4, None)


def test_strict_tests_each_commit_from_the_front() -> None:
    assert next_steps(train_of(5, strict=True), (), 3).start == (1, 2, 3)
    assert next_steps(train_of(5, green="1", strict=True), {2, 3}, 3).start == (4,)


def test_strict_does_not_test_again_what_was_green_out_of_order() -> None:
    assert next_steps(train_of(4, green="2", strict=True), {1}, 2).start == (3,)
    assert next_steps(train_of(2, green="2", strict=True), {1}, 2) == Steps()


def test_strict_lands_only_what_is_green_without_a_gap() -> None:
    assert train_of(5, green="1 2 4 5", strict=True).proven == 2
    assert train_of(5, green="2 3", strict=True).proven == BASE
    assert train_of(5, green="1 2 3 4 5", strict=True).proven == 5


def test_strict_blames_a_red_car_though_one_behind_it_is_green() -> None:
    train = train_of(5, green="1 5", red="2 2", strict=True)
    assert next_steps(train, {3}, 4) == Steps(give_up=frozenset({3}), blamed=2)


# Whom to blame


@pytest.mark.parametrize(
    ("runs", "seen"),
    [
        (Runs(), set()),
        (Runs(green=1), {"passes"}),
        (Runs(red=1), {"fails"}),
        (Runs(red=2), {"fails", "confirmed"}),
        (Runs(green=1, red=1), {"passes", "flaky"}),
        (Runs(green=1, red=2), {"passes", "flaky"}),
    ],
)
def test_one_green_run_clears_a_commit_however_often_it_was_red(runs: Runs, seen: set[str]) -> None:
    words = ("passes", "fails", "confirmed", "flaky")
    assert {word for word in words if getattr(runs, word)} == seen


def test_blame_needs_a_green_car_below_and_two_red_runs() -> None:
    assert next_steps(train_of(4, green="2", red="3"), (), 2) == Steps(start=(3,))
    assert next_steps(train_of(4, green="2", red="3 3"), (), 2) == Steps(blamed=3)
    assert next_steps(train_of(4, green="1", red="3 3"), (), 2) == Steps(start=(2,))


def test_the_second_run_is_awaited_not_started_again() -> None:
    assert next_steps(train_of(4, green="2", red="3"), {3}, 4) == Steps()


def test_the_base_is_tested_when_the_first_task_after_it_fails() -> None:
    assert next_steps(train_of(4, red="2"), (), 4).start == (1,)
    assert set(next_steps(train_of(4, red="1"), (), 4).start) == {BASE, 1}
    assert next_steps(train_of(4, red="1 1"), (), 4).start == (BASE,)
    assert next_steps(train_of(4, green="0", red="1 1"), (), 4) == Steps(blamed=1)


def test_a_base_that_has_landed_green_is_not_tested_again() -> None:
    train = train_of(4, green="2", red="3").moved_up(2)
    assert next_steps(train, (), 4) == Steps(start=(1,))


def test_a_red_base_is_tested_twice_and_then_nobody_is_blamed() -> None:
    train = train_of(4, red="0 1 1")
    assert next_steps(train, (), 4).start == (BASE,)
    assert next_steps(train.recorded("c0", passed=True), (), 4) == Steps(blamed=1)
    train = train.recorded("c0", passed=False)
    assert next_steps(train, {1}, 4) == Steps(give_up=frozenset({1}), base_is_red=True)


def test_a_red_base_holds_nothing_up_that_has_been_proven_on_it() -> None:
    """A task that mends the base lands."""
    train = train_of(4, green="2", red="0 0")
    assert next_steps(train, (), 1) == Steps(start=(4,))


def test_a_flake_passes_and_is_seen_as_one() -> None:
    train = train_of(4, green="2", red="3").recorded("c3", passed=True)
    assert train.at(3) == Runs(green=1, red=1)
    assert train.at(3).flaky
    assert (train.proven, train.failing) == (3, None)
    assert next_steps(train, (), 4) == Steps(start=(4,))
    assert not train_of(1, red="1 1").at(1).flaky


def test_the_blamed_car_leaves_with_those_behind_it_and_what_was_green_stays() -> None:
    train = train_of(4, green="2", red="3 3").shortened(2)
    assert [car.task_id for car in train.cars] == ["task1", "task2"]
    assert train.top == "c2"
    again = train.extended(Car("task4", "d3", "tree4"))
    assert next_steps(again, (), 4) == Steps(start=(3,))


# How long a train is


@pytest.mark.parametrize(
    ("rate", "slots", "length"),
    [(0.0, 4, 64), (0.01, 4, 64), (0.05, 4, 18), (0.1, 2, 9), (0.4, 1, 2), (0.4, 8, 8), (1, 1, 1)],
)
def test_about_one_failure_is_expected_in_a_window(rate: float, slots: int, length: int) -> None:
    assert window(rate, slots) == length


def test_there_is_room_up_to_the_window_and_none_while_a_red_car_is_narrowed_down() -> None:
    assert room(train_of(0), 0.1, 2) == 9
    assert room(train_of(7, green="3"), 0.1, 2) == 2
    assert room(train_of(12), 0.1, 2) == 0
    assert room(train_of(2, red="2"), 0.1, 2) == 0
    assert room(train_of(2, green="2"), 0.1, 2) == 7


def test_the_failure_rate_is_learned_from_what_was_judged() -> None:
    rate = FIRST_FAILURE_RATE
    assert updated_rate(rate) == rate
    assert updated_rate(rate, passed=1) < rate < updated_rate(rate, blamed=1)
    assert updated_rate(rate, passed=1000) == pytest.approx(0, abs=1e-9)
    assert updated_rate(rate, blamed=1000) == pytest.approx(1)
    for _ in range(200):
        rate = updated_rate(rate, passed=4, blamed=1)
    assert rate == pytest.approx(0.2, abs=0.02)


# What it costs


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    path = Path(__file__).parents[2] / "contrib/queue/simulate.py"
    spec = importlib.util.spec_from_file_location("simulate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("slots", [1, 2])
def test_a_queue_of_64_costs_what_was_published(simulate: ModuleType, slots: int) -> None:
    conditions = simulate.Conditions(settled=True)
    outcome = simulate.prefix(0.05, slots, conditions, seed=7, trials=60)
    assert simulate.within(outcome, simulate.PUBLISHED[f"W={slots}"][0.05])
    assert outcome.innocent == 0


def test_tests_of_unequal_length_cost_less_wall_time_than_rounds(simulate: ModuleType) -> None:
    """The lane goes on with every result; it waits for no round to end."""
    rounds, single = (
        simulate.prefix(
            0.05, 4, simulate.Conditions(settled=False, jitter=jitter), seed=7, trials=30
        )
        for jitter in (0.0, 0.5)
    )
    assert single.wall < 1.1 * rounds.wall
    assert single.innocent == 0


def test_a_base_that_was_green_once_is_seen_again_before_somebody_is_blamed() -> None:
    """What the tests stand on, outside the tree, may have broken since."""
    train = train_of(3).recorded("c0", passed=True)
    for commit in ("c3", "c2", "c1", "c1"):
        train = train.recorded(commit, passed=False)
    assert next_steps(train, (), 1) == Steps(start=(BASE,))
    broken = train.recorded("c0", passed=False)
    assert next_steps(broken, (), 1) == Steps(start=(BASE,))
    assert next_steps(broken.recorded("c0", passed=False), (), 1).base_is_red
    assert next_steps(train.recorded("c0", passed=True), (), 1) == Steps(blamed=1)


def test_what_passed_during_the_search_needs_no_other_run() -> None:
    train = train_of(4).recorded("c0", passed=True).recorded("c4", passed=False)
    train = train.recorded("c2", passed=True).recorded("c3", passed=False)
    landed = train.moved_up(2).recorded("c3", passed=False)
    assert next_steps(landed, (), 1) == Steps(blamed=1)
