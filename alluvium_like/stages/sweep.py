"""Housekeeping's hands: gathers the facts for `retention`, and carries out what it says.

The facts are read beside the store's writer, so they may be old: each thing is renamed away inside
a transaction that sees its task ended as it was, while nothing else can change a row. Refs go by
compare-and-set. The rows of a task go last, when nothing else of it is left.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from alluvium_like.clock import utc_text
from alluvium_like.config.tables import Retention
from alluvium_like.gitrepo.objects import update_refs
from alluvium_like.gitrepo.runner import Git
from alluvium_like.lifecycle import ENDED, Condition, State
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import pulled_key
from alluvium_like.stages.retention import (
    Kind,
    LogFacts,
    Ref,
    Removal,
    SetupFacts,
    TaskFacts,
    horizon,
    what_goes,
)
from alluvium_like.stages.trash import disk_size, is_really_there, throw_away
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.transaction import Transaction
from alluvium_like.store.writer import Store
from alluvium_like.task import REPOSITORY, Task
from alluvium_like.workspace import Workspace

log = get_logger(__name__)

_REFS = ("refs/alluvium/tasks/", "refs/alluvium/candidates/")
_WITHOUT_PATH = (Kind.REF, Kind.HISTORY)
_AT_ONCE = 8
"""Few: nobody else writes a row while they are renamed and synced."""

Stopping = Callable[[], bool]


def _never() -> bool:
    return False


async def survey(
    workspace: Workspace, git: Git, limits: Retention, stopping: Stopping = _never
) -> list[Removal]:
    """Return what would go now, with sizes, and change nothing. Raises StoreError or GitFailed."""
    refs = await _refs(git, workspace)
    return await anyio.to_thread.run_sync(_survey, workspace, limits, refs, stopping)


async def carry_out(
    workspace: Workspace,
    store: Store,
    git: Git,
    removals: Sequence[Removal],
    stopping: Stopping = _never,
) -> list[Removal]:
    """Move what was found into the trash and drop the refs; return what really went.

    What somebody has come to need meanwhile stays, as does what cannot be moved. Raises StoreError
    or GitFailed.
    """
    gone: list[Removal] = []
    for start in range(0, len(removals), _AT_ONCE):
        if stopping():
            break
        batch = removals[start : start + _AT_ONCE]
        async with store.transaction("swept") as tx:
            free = [removal for removal in batch if await _is_free(tx, removal)]
            files = [removal for removal in free if removal.kind not in _WITHOUT_PATH]
            gone += await anyio.to_thread.run_sync(_throw_away_all, workspace, files)
            rows = [removal for removal in free if removal.kind is Kind.HISTORY]
            for removal in rows:
                await _forget(tx, removal.task_id)
            gone += rows
        # After the files: a ref without its folder is found by the next look.
        refs = [removal for removal in free if removal.kind is Kind.REF]
        lines = [f"delete {removal.path} {removal.commit}" for removal in refs]
        await update_refs(git, workspace.integration, lines, "swept")
        gone += refs
    for removal in gone:
        log.info("removed", kind=removal.kind, path=removal.path, reason=removal.reason)
    return gone


async def _forget(tx: Transaction, task_id: str) -> None:
    """Delete the rows of a task, and the trials and landings that no other task was in."""
    trials = await tx.run("forget_trial_tasks", task_id=task_id)
    landings = await tx.run("forget_landing_tasks", task_id=task_id)
    for row in trials:
        await tx.run("forget_empty_trial", id=row["trial_id"])
    for row in landings:
        await tx.run("forget_empty_landing", id=row["landing_id"])
    for query in ("forget_events", "forget_attempts", "forget_checkpoints", "forget_task"):
        await tx.run(query, task_id=task_id)


async def _is_free(tx: Transaction, removal: Removal) -> bool:
    """Tell whether nobody has come to need the thing since it was looked at."""
    if removal.kind is Kind.SETUP:
        return True
    if removal.kind is Kind.TEST_LOG:
        number = int(Path(removal.path).stem)
        ids = [row["task_id"] for row in await tx.run("tasks_of_trial", trial_id=number)]
        return all([(await tx.get(task_id)).state in ENDED for task_id in ids])
    task = await tx.get(removal.task_id)
    if task.state not in ENDED or task.updated_at != removal.ended_at:
        return False
    attempts = await tx.run("attempts_of_task", task_id=task.id)
    cars = await tx.run("cars", repository=task.repository)
    landing = await tx.run("waiting_to_land", repository=task.repository)
    on_lane = {*(row["task_id"] for row in cars), *(row["id"] for row in landing)}
    return task.id not in on_lane and all(row["ended_at"] is not None for row in attempts)


def _throw_away_all(workspace: Workspace, removals: Iterable[Removal]) -> list[Removal]:
    gone = []
    for removal in removals:
        try:
            throw_away(workspace.root, removal.path.split("/"), workspace.trash)
            gone.append(removal)
        except OSError as error:
            log.warning("not_removed", path=removal.path, why=str(error))
    return gone


async def _refs(git: Git, workspace: Workspace) -> dict[str, list[Ref]]:
    """Return the refs that keep tasks' work, by task."""
    if not await anyio.Path(workspace.integration / "HEAD").exists():
        return {}
    form = "--format=%(refname) %(objectname)"
    done = await git.run("for-each-ref", form, *_REFS, git_dir=workspace.integration)
    found: dict[str, list[Ref]] = {}
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        name, _, commit = line.rpartition(" ")
        found.setdefault(name.rpartition("/")[2], []).append(Ref(name, commit))
    return found


@dataclass(frozen=True, slots=True)
class _Busy:
    """What work is under way with: tasks that may have ended themselves, and runs of tests."""

    tasks: frozenset[str]
    logs: frozenset[int]

    @classmethod
    def read(cls, store: StoreReader) -> "_Busy":
        active = [task for state in set(State) - ENDED for task in store.tasks(state)]
        repositories = {REPOSITORY, *(task.repository for task in active)}
        tasks = {task.reverts for task in active}
        logs = {row["id"] for task in active for row in store.trials(task.id)}
        for repository in repositories:
            tasks |= set(store.meta(pulled_key(repository)).split()[:1])  # `status` may name it
            tasks |= {row["task_id"] for row in store.cars(repository)}
            tasks |= {row["id"] for row in store.waiting_to_land(repository)}
            logs |= {row["id"] for row in store.open_trials(repository)}
        for condition in store.conditions():
            if condition["name"] == Condition.BASE_RED:  # its reason sends people to a file
                logs |= {int(n) for n in re.findall(r"logs/tests/(\d+)\.log", condition["reason"])}
        return cls(frozenset(tasks), frozenset(logs))


def _survey(
    workspace: Workspace, limits: Retention, refs: dict[str, list[Ref]], stopping: Stopping
) -> list[Removal]:
    now = datetime.now(UTC)
    files = _log_files(workspace)  # before the rows: a run has its row before its file
    workshops = _workshops(workspace)
    tasks: list[TaskFacts] = []
    with StoreReader(workspace.database) as store:
        busy = _Busy.read(store)
        for state in sorted(ENDED):
            oldest = horizon(limits, state, now)
            for task in store.tasks(state):
                if stopping():
                    return []
                left = task.id in refs or task.id in workshops
                if left or limits.folders_bytes or task.updated_at < oldest:
                    attempts = store.attempts(task.id)
                    in_use = task.id in busy.tasks or any(a.ended_at is None for a in attempts)
                    facts = _look_at(workspace, task, in_use, measure=bool(limits.folders_bytes))
                    more = tuple(refs.get(task.id, ())), tuple(workshops.get(task.id, ()))
                    tasks.append(replace(facts, refs=more[0], workshops=more[1]))
    logs = [LogFacts(n, at, size, n in busy.logs) for n, (at, size) in files.items()]
    setups = [SetupFacts(path.name, _written_at(path)) for path in _setups(workspace)]
    found = what_goes(limits, tasks, logs, now, setups)
    return [_measured(workspace, removal) for removal in found]


def _look_at(workspace: Workspace, task: Task, in_use: bool, *, measure: bool) -> TaskFacts:
    folder = workspace.task(task.id)
    outputs = folder.agent / "outputs"
    return TaskFacts(
        id=task.id,
        state=task.state,
        ended_at=task.updated_at,
        in_use=in_use,
        has_folder=os.path.lexists(folder.root),
        folder_size=disk_size(folder.root) if measure else 0,
        has_outputs=_is_there(workspace, outputs) and _holds_something(outputs),
        has_attempts=_is_there(workspace, folder.system / "attempts"),
    )


def _is_there(workspace: Workspace, path: Path) -> bool:
    return is_really_there(workspace.root, path.relative_to(workspace.root).parts)


def _holds_something(folder: Path) -> bool:
    """Tell whether an artifact is there; what cannot be read is taken for one."""
    if folder.is_symlink() or not folder.is_dir():
        return True
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return True


def _log_files(workspace: Workspace) -> dict[int, tuple[str, int]]:
    """Return when each log of a test run was written last, and its size, by number."""
    found: dict[int, tuple[str, int]] = {}
    for path in _entries(workspace.trial_logs):
        name = re.fullmatch(r"([1-9][0-9]{0,17})\.log", path.name, re.ASCII)
        if name and path.is_file() and not path.is_symlink():
            found[int(name[1])] = (_written_at(path), disk_size(path))
    return found


def _setups(workspace: Workspace) -> list[Path]:
    """Return what set-ups made; one that is being made is none yet."""
    return [path for path in _entries(workspace.setups) if not path.name.startswith(".")]


def _written_at(path: Path) -> str:
    return utc_text(datetime.fromtimestamp(path.lstat().st_mtime, UTC))


def _workshops(workspace: Workspace) -> dict[str, list[str]]:
    """Return the paths of what attempts may have left, by task."""
    found: dict[str, list[str]] = {}
    for path in [*_entries(workspace.worktrees), *_entries(workspace.workshops)]:
        task_id = path.name.split(".", 1)[0]
        found.setdefault(task_id, []).append(str(path.relative_to(workspace.root)))
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _measured(workspace: Workspace, removal: Removal) -> Removal:
    if removal.kind in _WITHOUT_PATH or removal.size:
        return removal
    return replace(removal, size=disk_size(workspace.root / removal.path))
