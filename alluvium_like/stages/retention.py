"""What has been kept long enough: the one place that decides what goes, and says why.

Pure: limits and facts in, removals out. Only tasks that have ended and that nothing has to do with
any more are looked at; whatever is not known for sure stays. Ages are counted from the task's end.
The rows of what ended today (UTC) stay in any case: budgets of the day count them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from alluvium_like.clock import utc_text
from alluvium_like.config.tables import Retention
from alluvium_like.lifecycle import ENDED, State

GRACE: Final = timedelta(hours=1)
"""An end is this old before anything is removed without regard to a number of days."""


class Kind(StrEnum):
    """What may go."""

    FOLDER = "folder"
    OUTPUTS = "outputs"
    ATTEMPTS = "attempts"
    REF = "ref"
    WORKSHOP = "workshop"
    HISTORY = "history"
    TEST_LOG = "test_log"
    SETUP = "setup"


@dataclass(frozen=True, slots=True)
class Ref:
    """A ref of the daemon's repository that keeps work of a task."""

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """One task and what there is of it.

    `ended_at` is when its row changed last, `in_use` whether an attempt, the train, a landing or a
    revert has to do with it. `folder_size` is only known where it counts. `workshops` are paths.
    """

    id: str
    state: State
    ended_at: str
    in_use: bool = False
    has_folder: bool = True
    folder_size: int = 0
    has_outputs: bool = False
    has_attempts: bool = False
    refs: tuple[Ref, ...] = ()
    workshops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogFacts:
    """One file of logs/tests/; `in_use` while its run or a task of it is not over."""

    number: int
    written_at: str
    size: int
    in_use: bool


@dataclass(frozen=True, slots=True)
class SetupFacts:
    """What the set-up of a worktree made and was kept, and when it was used last."""

    key: str
    used_at: str


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that goes: a path in the workspace, a ref with its commit, or a task's rows.

    `ended_at` is what the task's row said: where it says something else now, the thing stays.
    """

    kind: Kind
    path: str
    reason: str
    size: int = 0
    task_id: str = ""
    ended_at: str = ""
    commit: str = ""


def what_goes(
    limits: Retention,
    tasks: Sequence[TaskFacts],
    logs: Sequence[LogFacts],
    now: datetime,
    setups: Sequence[SetupFacts] = (),
) -> list[Removal]:
    """Return all that goes, what belongs to one task together."""
    over = [task for task in tasks if task.state in ENDED and not task.in_use]
    going = _too_many_bytes(limits, over, now)
    found: list[Removal] = []
    for task in over:
        found += _of_task(limits, task, going.get(task.id, ""), now)
    return [*found, *_test_logs(limits, logs, now), *_setups(limits, setups, now)]


def horizon(limits: Retention, state: State, now: datetime) -> str:
    """Return a time; of tasks that ended later in `state` nothing goes because of its age."""
    folder, attempts = _folder_limit(limits, state)[1], _attempts_limit(limits, state)[1]
    days = (folder, limits.outputs_days, attempts, limits.history_days)
    return max(_oldest_kept(limit, now) for limit in days)


def _of_task(limits: Retention, task: TaskFacts, why: str, now: datetime) -> Iterator[Removal]:
    """Yield what goes of one ended task; `why` is given where its folder is one too many."""
    why = why or _too_old(task, *_folder_limit(limits, task.state), now)
    long_over = task.ended_at < utc_text(now - GRACE)
    if why and task.has_folder:
        yield _removal(task, Kind.FOLDER, f"tasks/{task.id}", why)
    if task.has_folder and not why:
        yield from _parts(limits, task, now)
    for ref in task.refs:
        if why:
            reason = "its task's folder goes, or is gone"
        elif task.state is State.DONE and long_over:
            reason = "its task is done"
        else:
            continue
        yield Removal(Kind.REF, ref.name, reason, 0, task.id, task.ended_at, ref.commit)
    if long_over:
        for path in task.workshops:
            yield _removal(task, Kind.WORKSHOP, path, f"left over: its task is {task.state}")
    counts_today = task.ended_at >= utc_text(now.replace(hour=0, minute=0, second=0, microsecond=0))
    rows_go = not (task.has_folder or task.refs or task.workshops or counts_today)
    if rows_go and (why := _too_old(task, "history_days", limits.history_days, now)):
        yield _removal(task, Kind.HISTORY, task.id, why)


def _parts(limits: Retention, task: TaskFacts, now: datetime) -> Iterator[Removal]:
    if task.has_outputs and (why := _too_old(task, "outputs_days", limits.outputs_days, now)):
        yield _removal(task, Kind.OUTPUTS, f"tasks/{task.id}/.agent/outputs", why)
    if task.has_attempts and (why := _too_old(task, *_attempts_limit(limits, task.state), now)):
        yield _removal(task, Kind.ATTEMPTS, f"tasks/{task.id}/.system/attempts", why)


def _too_old(task: TaskFacts, key: str, days: float, now: datetime) -> str:
    if task.ended_at >= _oldest_kept(days, now):
        return ""
    age = (now - datetime.fromisoformat(task.ended_at)) / timedelta(days=1)
    return f"{task.state} for {age:.1f} days; retention.{key} is {days:g}"


def _too_many_bytes(limits: Retention, tasks: Iterable[TaskFacts], now: datetime) -> dict[str, str]:
    """Return the tasks whose folders go so that the others fit, each with the reason."""
    if not limits.folders_bytes:
        return {}
    here = [task for task in tasks if task.has_folder]
    kept = [t for t in here if not _too_old(t, *_folder_limit(limits, t.state), now)]
    left = sum(task.folder_size for task in kept)
    limit = f"{limits.folders_bytes:_}"
    why = f"the folders of ended tasks are too large; retention.folders_bytes is {limit}"
    going: dict[str, str] = {}
    for task in sorted(kept, key=lambda t: (t.state is not State.DONE, t.ended_at)):
        if left <= limits.folders_bytes:
            break
        if task.ended_at < utc_text(now - GRACE):
            left -= task.folder_size
            going[task.id] = why
    return going


def _test_logs(limits: Retention, logs: Iterable[LogFacts], now: datetime) -> Iterator[Removal]:
    count = size = 0
    oldest = _oldest_kept(limits.test_logs_days, now)
    for log in sorted(logs, key=lambda log: log.number, reverse=True):
        count, size = count + 1, size + log.size
        if log.in_use:
            continue
        if log.written_at < oldest:
            why = f"older than retention.test_logs_days, {limits.test_logs_days:g}"
        elif limits.test_logs and count > limits.test_logs:
            why = f"more than retention.test_logs, {limits.test_logs}"
        elif limits.test_logs_bytes and size > limits.test_logs_bytes:
            why = f"beyond retention.test_logs_bytes, {limits.test_logs_bytes:_}"
        else:
            continue
        yield Removal(Kind.TEST_LOG, f"logs/tests/{log.number}.log", why, log.size)


def _setups(limits: Retention, setups: Iterable[SetupFacts], now: datetime) -> Iterator[Removal]:
    """Yield those that were not among the last used; none that may be in use just now."""
    if not limits.setups:
        return
    newest_first = sorted(setups, key=lambda each: (each.used_at, each.key), reverse=True)
    for each in newest_first[limits.setups :]:
        if each.used_at < utc_text(now - GRACE):
            why = f"more than retention.setups, {limits.setups}"
            yield Removal(Kind.SETUP, f".alluvium/setups/{each.key}", why)


def _folder_limit(limits: Retention, state: State) -> tuple[str, float]:
    done = state is State.DONE
    return ("done_days", limits.done_days) if done else ("failed_days", limits.failed_days)


def _attempts_limit(limits: Retention, state: State) -> tuple[str, float]:
    if state is State.DONE:
        return "attempts_days", limits.attempts_days
    return "failed_attempts_days", limits.failed_attempts_days


def _oldest_kept(days: float, now: datetime) -> str:
    """Return the oldest time that a limit keeps; without a limit that is before all times."""
    return utc_text(now - timedelta(days=days)) if days else ""


def _removal(task: TaskFacts, kind: Kind, path: str, why: str) -> Removal:
    return Removal(kind, path, why, task_id=task.id, ended_at=task.ended_at)
