"""What goes and why: each rule, and what none of them may ever name."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alluvium_like.clock import utc_text
from alluvium_like.config.tables import Retention
from alluvium_like.lifecycle import ENDED, State
from alluvium_like.stages.retention import (
    Kind,
    LogFacts,
    Ref,
    Removal,
    TaskFacts,
    horizon,
    what_goes,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NO_LIMITS = Retention(
    attempts_days=0, failed_attempts_days=0, test_logs=0, test_logs_days=0, test_logs_bytes=0
)


def ago(days: float) -> str:
    return utc_text(NOW - timedelta(days=days))


def task(
    name: str = "t", state: State = State.DONE, days: float = 100, **more: object
) -> TaskFacts:
    facts = TaskFacts(name, state, ago(days), has_outputs=True, has_attempts=True)
    return replace(facts, **more)  # type: ignore[arg-type]


def run_log(number: int, days: float = 1, size: int = 10, in_use: bool = False) -> LogFacts:
    return LogFacts(number, ago(days), size, in_use)


def go(limits: Retention, *tasks: TaskFacts, logs: tuple[LogFacts, ...] = ()) -> list[Removal]:
    return what_goes(limits, tasks, logs, NOW)


def limits(**given: float) -> Retention:
    return NO_LIMITS.model_copy(update=given)


def paths(found: list[Removal]) -> list[str]:
    return [removal.path for removal in found]


def test_without_limits_nothing_goes_however_old() -> None:
    ended = [task(state.value, state, 50_000) for state in ENDED]
    assert go(NO_LIMITS, *ended, logs=(run_log(1, 50_000),)) == []


def test_by_default_no_folder_and_no_artifact_ever_goes() -> None:
    ended = [task(state.value, state, 50_000, folder_size=10**15) for state in ENDED]
    assert {removal.kind for removal in go(Retention(), *ended)} == {Kind.ATTEMPTS}


@pytest.mark.parametrize(
    ("key", "state"),
    [("done_days", State.DONE), ("failed_days", State.FAILED), ("failed_days", State.CANCELLED)],
)
def test_a_folder_goes_by_the_limit_of_its_state_alone(key: str, state: State) -> None:
    old, new = task("old", state, 31), task("new", state, 29)
    others = [task(s.value, s, 31) for s in ENDED if (s is State.DONE) != (state is State.DONE)]
    found = go(limits(**{key: 30}), old, new, *others)
    assert paths(found) == ["tasks/old"]
    assert found[0].reason == f"{state} for 31.0 days; retention.{key} is 30"
    assert found[0].ended_at == old.ended_at


def test_what_an_agent_put_out_is_kept_longer_where_the_task_failed() -> None:
    default = Retention()
    assert default.failed_attempts_days > default.attempts_days > 0
    ended = [task(state.value, state, default.attempts_days + 1) for state in sorted(ENDED)]
    assert paths(go(default, *ended)) == ["tasks/done/.system/attempts"]
    ended = [task(state.value, state, default.failed_attempts_days + 1) for state in sorted(ENDED)]
    assert paths(go(default, *ended)) == [
        f"tasks/{state}/.system/attempts" for state in sorted(ENDED)
    ]


def test_artifacts_go_by_their_own_limit_and_only_where_there_are_any() -> None:
    found = go(limits(outputs_days=5), task("a", days=6), task("b", days=6, has_outputs=False))
    assert paths(found) == ["tasks/a/.agent/outputs"]
    assert go(limits(outputs_days=5), task(days=4)) == []


def test_what_lies_in_a_folder_that_goes_is_not_named_again() -> None:
    found = go(limits(done_days=1, outputs_days=1, attempts_days=1), task())
    assert [removal.kind for removal in found] == [Kind.FOLDER]


def test_a_ref_goes_with_the_folder_and_also_when_that_went_before() -> None:
    ref = Ref("refs/alluvium/tasks/t", "c" * 40)
    for there in (True, False):
        failed = task(state=State.FAILED, days=31, refs=(ref,), has_folder=there)
        (*_, last) = go(limits(failed_days=30), failed)
        assert (last.kind, last.path, last.commit) == (Kind.REF, ref.name, ref.commit)
        assert go(NO_LIMITS, failed) == [], "somebody else removed the folder, not the limit"
        assert go(limits(failed_days=32), failed) == []


def test_a_ref_that_a_crash_left_of_a_done_task_goes_without_a_limit() -> None:
    ref = Ref("refs/alluvium/tasks/t", "c" * 40)
    assert [r.kind for r in go(NO_LIMITS, task(days=1, refs=(ref,)))] == [Kind.REF]
    assert go(NO_LIMITS, task(days=0.01, refs=(ref,))) == [], "its landing may be at it"
    assert go(NO_LIMITS, task(state=State.FAILED, refs=(ref,))) == []


def test_left_over_workshops_go_when_their_task_is_long_over() -> None:
    left = ("worktrees/t", ".alluvium/workshops/t.git")
    assert paths(go(NO_LIMITS, task(days=1, workshops=left))) == list(left)
    assert go(NO_LIMITS, task(days=0.01, workshops=left)) == []


def test_too_many_bytes_take_the_oldest_folders_and_those_of_done_tasks_first() -> None:
    sizes = {"folder_size": 100}
    tasks = [
        task("failed", State.FAILED, 400, **sizes),
        task("old", State.DONE, 300, **sizes),
        task("older", State.DONE, 350, **sizes),
        task("new", State.DONE, 0.01, **sizes),
    ]
    assert paths(go(limits(folders_bytes=400), *tasks)) == []
    assert paths(go(limits(folders_bytes=399), *tasks)) == ["tasks/older"]
    assert paths(go(limits(folders_bytes=200), *tasks)) == ["tasks/old", "tasks/older"]
    everything = paths(go(limits(folders_bytes=1), *tasks))
    assert everything == ["tasks/failed", "tasks/old", "tasks/older"], "a new end has its grace"


def test_what_goes_by_age_counts_no_more_for_the_bytes() -> None:
    tasks = [
        task("failed", State.FAILED, 100, folder_size=100),
        task("done", State.DONE, 60, folder_size=100),
    ]
    found = go(limits(folders_bytes=100, failed_days=50), *tasks)
    assert paths(found) == ["tasks/failed"], "else the done one would be the first to go"


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ({"test_logs": 2}, "more than retention.test_logs, 2"),
        ({"test_logs_days": 2}, "older than retention.test_logs_days, 2"),
        ({"test_logs_bytes": 25}, "beyond retention.test_logs_bytes, 25"),
    ],
)
def test_logs_of_tests_go_by_number_age_and_size(limit: dict[str, float], why: str) -> None:
    logs = tuple(run_log(number, days=5 - number) for number in (1, 2, 4, 3))
    assert [(r.path, r.reason) for r in go(limits(**limit), logs=logs)] == [
        ("logs/tests/2.log", why),
        ("logs/tests/1.log", why),
    ]


def test_a_log_that_is_needed_stays_whatever_the_limits() -> None:
    logs = (run_log(1, 999, 10**9, in_use=True), run_log(2, 999, 1))
    found = go(limits(test_logs=1, test_logs_days=1, test_logs_bytes=1), logs=logs)
    assert paths(found) == ["logs/tests/2.log"]


times = st.floats(min_value=-500, max_value=2000)
counts = st.integers(0, 10**6)
all_limits = st.builds(
    Retention,
    **{key: st.floats(0, 1000) for key in Retention.model_fields if key.endswith("_days")},
    folders_bytes=counts,
    test_logs=counts,
    test_logs_bytes=counts,
)
all_tasks = st.builds(
    TaskFacts,
    id=st.uuids().map(str),
    state=st.sampled_from(State),
    ended_at=times.map(ago),
    in_use=st.booleans(),
    has_folder=st.booleans(),
    folder_size=counts,
    has_outputs=st.booleans(),
    has_attempts=st.booleans(),
    refs=st.sampled_from([(), (Ref("r", "c"),)]),
    workshops=st.sampled_from([(), ("worktrees/x",)]),
)
all_logs = st.builds(
    LogFacts,
    number=st.integers(1, 50),
    written_at=times.map(ago),
    size=counts,
    in_use=st.booleans(),
)
UNENDED = set(State) - ENDED


@given(all_limits, st.lists(all_tasks, max_size=8), st.lists(all_logs, max_size=8))
def test_nothing_of_a_task_that_waits_runs_or_has_yet_to_land_is_ever_named(
    chosen: Retention, tasks: list[TaskFacts], logs: list[LogFacts]
) -> None:
    found = what_goes(chosen, tasks, logs, NOW)
    needed = {t.id for t in tasks if t.state in UNENDED or t.in_use}
    assert not needed & {removal.task_id for removal in found}
    assert all(removal.task_id or removal.kind is Kind.TEST_LOG for removal in found)
    for needed_log in (log for log in logs if log.in_use):
        twins = [log for log in logs if log.number == needed_log.number and not log.in_use]
        assert twins or f"logs/tests/{needed_log.number}.log" not in paths(found)


@given(all_limits, st.lists(all_tasks, max_size=8))
def test_each_removal_has_a_reason_and_an_end_that_lies_behind(
    chosen: Retention, tasks: list[TaskFacts]
) -> None:
    ends = {t.id: t.ended_at for t in tasks}
    for removal in what_goes(chosen, tasks, [], NOW):
        assert removal.reason
        assert removal.ended_at == ends[removal.task_id] < utc_text(NOW)


@given(all_limits.map(lambda chosen: chosen.model_copy(update={"folders_bytes": 0})), all_tasks)
def test_behind_the_horizon_nothing_goes_for_its_age(chosen: Retention, facts: TaskFacts) -> None:
    bare = replace(facts, refs=(), workshops=())
    if facts.state in ENDED and what_goes(chosen, [bare], [], NOW):
        assert facts.ended_at < horizon(chosen, facts.state, NOW)


def test_rows_go_last_when_nothing_else_of_the_task_is_left() -> None:
    ref = Ref("refs/alluvium/tasks/t", "c" * 40)
    limit = limits(history_days=30)
    for state in ENDED:
        (gone,) = go(limit, task(state=state, days=31, has_folder=False))
        assert (gone.kind, gone.path) == (Kind.HISTORY, "t")
        assert gone.reason == f"{state} for 31.0 days; retention.history_days is 30"
    assert go(limit, task(days=29, has_folder=False)) == []
    assert go(limit, task(days=31)) == []
    assert go(limit, task(state=State.FAILED, days=31, has_folder=False, refs=(ref,))) == []
    assert go(limit, task(days=31, has_folder=False, in_use=True)) == []
    kinds = [r.kind for r in go(limit, task(days=31, has_folder=False, workshops=("worktrees/t",)))]
    assert kinds == [Kind.WORKSHOP], "the next look finds nothing left"


def test_rows_stay_until_the_day_is_over_whose_budgets_count_them() -> None:
    """It is noon, in UTC."""
    limit = limits(history_days=0.01)
    assert go(limit, task(days=0.4, has_folder=False)) == []
    assert go(limit, task(days=0.5, has_folder=False)) == []
    assert [gone.kind for gone in go(limit, task(days=0.6, has_folder=False))] == [Kind.HISTORY]
