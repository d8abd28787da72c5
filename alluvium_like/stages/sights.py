"""What the escape detector sees, and what of it was done by nobody who may.

The refs and files that the daemon writes are told by its journals; the owner's right is what an
owner's everyday commands write into the configuration, and all of it while no agent can have
reached it.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from alluvium_like.clock import utc_now
from alluvium_like.gitrepo.watched import (
    CONFIGS,
    EVERYDAY_HOOK,
    changed_settings,
    differ,
    hooks_folder,
    read_config,
    read_ours,
    read_owners,
    read_refs,
)
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.system_files import changed_files, read_system
from alluvium_like.stages.watch import Sight
from alluvium_like.written import WRITTEN


@dataclass(frozen=True, slots=True)
class Finding:
    """One change that is not in the journals: where, in words what, and how it was before.

    `allowed`: it is the owner's right. `before` and `now` are None where content is not looked at.
    """

    place: str
    what: str
    allowed: bool = False
    before: bytes | None = None
    now: bytes | None = None


async def see(parts: Parts, before: Sight | None) -> tuple[Sight, list[Finding]]:
    """Take a look; return also what somebody else did to the daemon's files in tasks' folders.

    Raises StoreError, GitFailed or OSError.
    """
    watch, workspace = parts.watch, parts.workspace
    mark, at = parts.git.refs.mark(), utc_now()
    newest: int = (await parts.store.rows("newest_task"))[0]["seq"]
    rows = await parts.store.rows("not_ended")
    tasks: dict[str, int] = {row["id"]: row["seq"] for row in rows}
    own = {run.task_id for run in watch.in_window}
    hooks = await _other_hooks(parts)

    def read() -> tuple[Sight, list[Finding]]:
        owners = read_owners(parts.owner.git_dir, hooks)
        ours = read_ours(workspace.integration)
        refs = read_refs(workspace.integration, watch.known_refs)
        with WRITTEN.held():
            system = {task_id: read_system(workspace.task(task_id).system) for task_id in tasks}
            now = Sight(at, mark, newest, owners, ours, refs, system)
            strange = [] if before is None else list(_strange_files(before, now, tasks, own))
        return now, strange

    return await anyio.to_thread.run_sync(read)


async def find_changes(parts: Parts, before: Sight, now: Sight) -> list[Finding]:
    """Return what changed in the repositories, but not what was put back as it had been.

    Where all that ran was boxed, nobody but the owner can have changed the owner's settings.
    """
    runs = parts.watch.in_window
    found = [each async for each in _owners(parts, before, now)]
    if runs and all(run.boxed for run in runs):
        found = [Finding(each.place, each.what, allowed=True) for each in found]
    return [each for each in (*found, *_ours(parts, before, now)) if not _is_mended(parts, each)]


def _strange_files(
    before: Sight, now: Sight, tasks: dict[str, int], own: set[str]
) -> Iterator[Finding]:
    """Yield the files of tasks none of whose own attempts ran.

    What was there before is not known of a task that had ended and goes on.
    """
    for task_id, seen in now.system.items():
        was = before.system.get(task_id)
        if task_id in own or (was is None and tasks[task_id] <= before.newest):
            continue
        for name in changed_files(was, seen):
            path = f"tasks/{task_id}/.system/{name}"
            yield Finding(path, path)


async def _owners(parts: Parts, before: Sight, now: Sight) -> AsyncIterator[Finding]:
    for name in differ(before.owners, now.owners):
        was, is_now = before.owners.get(name), now.owners.get(name)
        what = f"{name} of the repository"
        if not name.endswith(CONFIGS):
            allowed = {was, is_now} == {None, EVERYDAY_HOOK}
            yield Finding(f"owner {name}", what, allowed, was or b"", is_now or b"")
            continue
        everyday, others = await changed_settings(parts.git, was or b"", is_now or b"")
        keys = others or everyday
        if keys:
            what = f"{', '.join(keys[:5])} in {what}"
            yield Finding(f"owner {name}", what, not others, was or b"", is_now or b"")


def _ours(parts: Parts, before: Sight, now: Sight) -> Iterator[Finding]:
    for name in differ(before.ours, now.ours):
        was, is_now = before.ours.get(name, b""), now.ours.get(name, b"")
        yield Finding(f"ours {name}", f"{name} of integration.git", False, was, is_now)
    store = parts.workspace.integration
    for ref in parts.git.refs.unexplained(store, before.refs, now.refs, now.mark):
        was_at, is_at = before.refs.get(ref, ""), now.refs.get(ref, "")
        what = f"{ref} of integration.git (now {is_at[:12] or 'gone'})"
        yield Finding(ref, what, False, was_at.encode(), is_at.encode())


def _is_mended(parts: Parts, found: Finding) -> bool:
    return found.now is not None and parts.watch.good.get(found.place) == found.now


async def _other_hooks(parts: Parts) -> Path | None:
    watch, owner = parts.watch, parts.owner
    config = await anyio.to_thread.run_sync(read_config, owner.git_dir)
    if config != watch.hooks[0]:
        folder = await hooks_folder(parts.git, owner.git_dir, owner.path, config)
        watch.hooks = config, str(folder or "")
    return Path(watch.hooks[1]) if watch.hooks[1] else None
