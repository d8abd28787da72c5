"""verify: store, folders, refs, history and journal checked against each other; nothing is changed.

Rows are read as of one moment, then folders and Git. While a daemon works they may be a step
apart: then it is looked again, and only what is found every time is told.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import anyio

from alluvium_like.config import load_config
from alluvium_like.errors import AlluviumError, ConfigError, RepositoryError, StoreError
from alluvium_like.gitrepo.audit import read_landings
from alluvium_like.gitrepo.bundle import present_commits, read_refs
from alluvium_like.gitrepo.locate import locate_owner
from alluvium_like.gitrepo.runner import Git, full_ref
from alluvium_like.guarded import open_folder, read_regular
from alluvium_like.lock import is_locked
from alluvium_like.store.inspection import Inspection
from alluvium_like.store.rows import to_attempt, to_task
from alluvium_like.surface.checks import (
    BACKUP,
    Facts,
    Finding,
    Kind,
    check_all,
)
from alluvium_like.surface.event_checks import check_events, check_projection
from alluvium_like.surface.sealed import check_inputs
from alluvium_like.task import Attempt, Task
from alluvium_like.workspace import EVENTS_NAME, SYSTEM_NAME, Workspace

_GIT: Final = "verify"
_PAUSES_SECONDS: Final = (0.5, 2.0)
"""Nothing tells another process when a step is over; none takes this long twice."""
_EVENTS_BYTES: Final = 64_000_000


def verify(workspace: Workspace, *, running: bool | None = None) -> list[Finding]:
    """Return everything that is wrong; what is only under way is left out.

    `running` says whether somebody works there; else the lock is asked.
    """
    working = is_locked(workspace) if running is None else running
    findings = _look(workspace, working)
    for pause in _PAUSES_SECONDS if working else ():
        if not findings:
            break
        time.sleep(pause)
        look = _look(workspace, is_locked(workspace))
        again = {(finding.kind, finding.subject) for finding in look}
        findings = [each for each in findings if (each.kind, each.subject) in again]
    return findings


def _look(workspace: Workspace, running: bool) -> list[Finding]:
    if not workspace.database.exists():
        return list(_without_store(workspace))
    try:
        with Inspection(workspace.database) as store:
            findings = [_store(problem) for problem in store.damage()]
            facts = _read(workspace, store)
            findings += _check_histories(workspace, store, facts, running)
            findings += check_inputs(workspace, facts.tasks.values())
            repositories = list(store.rows("repositories"))
            named = [(row["place"], row["commit_id"]) for row in store.rows("commits_named")]
    except StoreError as error:
        return [_store(str(error))]
    if repositories:  # else no daemon has started yet
        base = repositories[0]["base_branch"]
        facts = replace(facts, base_branch=base, named=named)
        facts, more = anyio.run(_ask_git, workspace, facts)
        findings += more
    return [*findings, *check_all(facts)]


def _without_store(workspace: Workspace) -> Iterator[Finding]:
    for name in _folders(workspace):
        advice = BACKUP
        yield Finding(Kind.STORE, name, "has a folder, and there is no store", advice)


def _store(problem: str) -> Finding:
    advice = "stop the daemon, keep a copy of .alluvium/, and restore a backup"
    return Finding(Kind.STORE, "alluvium.db", problem, advice)


def _read(workspace: Workspace, store: Inspection) -> Facts:
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for row in store.rows("attempts"):
        attempts[row["task_id"]].append(to_attempt(row))
    return Facts(
        tasks={row["id"]: to_task(row) for row in store.rows("list_tasks")},
        attempts=attempts,
        claims={row["task_id"] for row in store.rows("claims")},
        asking={row["task_id"] for row in store.rows("tasks_asking")},
        landings=list(store.rows("landings")),
        folders=_folders(workspace),
    )


def _folders(workspace: Workspace) -> dict[str, bool]:
    """Return the folders in tasks/, and whether each has an input/ of its own."""
    found: dict[str, bool] = {}
    if workspace.tasks.is_dir():
        with os.scandir(workspace.tasks) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    task_input = Path(entry.path, "input")
                    found[entry.name] = task_input.is_dir() and not task_input.is_symlink()
    return found


def _check_histories(
    workspace: Workspace, store: Inspection, facts: Facts, running: bool
) -> Iterator[Finding]:
    (newest,) = (row["seq"] for row in store.rows("last_event"))
    projected = sum(int(row["value"]) for row in store.rows("get_meta", key="projected_event"))
    unseen = set(facts.tasks)
    for task_id, group in groupby(store.rows("events"), key=itemgetter("task_id")):
        events, task = list(group), facts.tasks.get(task_id)
        unseen.discard(task_id)
        yield from check_events(task, events)
        # After a crash the next start writes these files anew.
        stale = not running and events[-1]["seq"] > projected
        if task is not None and task_id in facts.folders and not stale:
            lines = _read_events(workspace, task)
            yield from check_projection(task, events, lines, newest)
    for task_id in sorted(unseen):
        yield Finding(Kind.EVENTS, task_id, "has no events", BACKUP)


def _read_events(workspace: Workspace, task: Task) -> list[object] | None:
    """Return the lines of a task's events.jsonl, None where there is no such file."""
    try:
        with open_folder(workspace.task(task.id).root / SYSTEM_NAME) as folder:
            data = read_regular(folder, EVENTS_NAME, _EVENTS_BYTES)
    except OSError:
        return None
    try:
        return None if data is None else [json.loads(line) for line in data.splitlines()]
    except (ValueError, RecursionError):
        return [None]


async def _ask_git(workspace: Workspace, facts: Facts) -> tuple[Facts, list[Finding]]:
    """Add what Git says, and what keeps it from saying it."""
    git, integration = Git(_GIT), workspace.integration
    try:
        if not (integration / "HEAD").exists():
            raise RepositoryError("is not there")
        refs = await read_refs(git, integration)
        wanted = {commit for _, commit in facts.named} | set(refs.values())
        commits = await present_commits(git, integration, wanted)
    except AlluviumError as error:
        advice = "restore a backup; a new start clones it again, but without the work of tasks"
        finding = Finding(Kind.REPOSITORY, "integration.git", str(error), advice)
        return facts, [finding]
    facts = replace(facts, refs=refs, commits=commits)
    place, tip, findings = await _owners_base(git, workspace, facts.base_branch)
    if not tip:
        place, tip = integration, refs.get(full_ref(facts.base_branch), "")
    if not tip:
        return facts, findings
    try:
        return replace(facts, history=await read_landings(git, place, tip)), findings
    except AlluviumError as error:
        advice = f"'git -C {place} fsck' says more"
        return facts, [*findings, Finding(Kind.REPOSITORY, str(place), str(error), advice)]


async def _owners_base(
    git: Git, workspace: Workspace, branch: str
) -> tuple[Path, str, list[Finding]]:
    """Return where the owner's base is and its commit, empty with the reason where it is not."""
    try:
        place = load_config(workspace.config_file).repo.at(workspace.root)
    except ConfigError as error:
        finding = Finding(Kind.REPOSITORY, "config.toml", error.problems[0], "mend it")
        return workspace.root, "", [finding]
    advice = (
        f"put it back, or set [repo].path in config.toml; {branch} as it was seen last: "
        f"git clone --branch {branch} {workspace.integration} {place}"
    )
    try:
        owner = await locate_owner(git, place, branch)
        refs = await read_refs(git, owner.git_dir)
    except AlluviumError:
        finding = Finding(Kind.REPOSITORY, str(place), "there is no Git repository", advice)
        return place, "", [finding]
    if full_ref(branch) not in refs:
        return place, "", [Finding(Kind.REPOSITORY, str(place), f"has no branch {branch}", advice)]
    return owner.git_dir, refs[full_ref(branch)], []
