"""restore: a backup becomes a workspace again, in an empty folder, whole or not at all.

Everything is made beside its place and renamed, the daemon's folder last: without it there is no
workspace. Rows, folders and refs are brought to the moment at which the rows were saved; the rest
is the daemon's at its first start. Work that has landed since is not to be done again: then the
new workspace is paused.
"""

import os
import secrets
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from alluvium_like.config import load_config
from alluvium_like.deletion import empty
from alluvium_like.durable import fsync_dir, rename_noreplace, sync_file_system
from alluvium_like.errors import AlluviumError, ConfigError, GitFailed, WorkspaceError, reason_of
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.bundle import (
    fill_work_tree,
    follow_branch,
    make_from_bundle,
    present_commits,
    set_refs,
)
from alluvium_like.gitrepo.harvest import task_ref
from alluvium_like.gitrepo.owner import NEW_BRANCH
from alluvium_like.gitrepo.runner import Git, full_ref
from alluvium_like.lifecycle import Condition, State
from alluvium_like.lock import workspace_lock
from alluvium_like.store.rows import Row, to_task
from alluvium_like.store.writer import Store
from alluvium_like.surface.checks import (
    BASE_REF,
    Finding,
    Kind,
    candidate_ref,
    is_open,
    task_of_ref,
)
from alluvium_like.surface.unpack import Extractor, read_archive
from alluvium_like.surface.verify import verify
from alluvium_like.task import Task
from alluvium_like.workspace import STATE_NAME, Workspace

_GIT: Final = "restore"
_HELD: Final = "restoring was cut off before the end; 'alluvium-like verify' says more"


@dataclass(frozen=True, slots=True)
class Restored:
    """A new workspace: when it was saved, and what a person has to know of it."""

    workspace: Workspace
    made_at: str
    tasks: int
    paused: bool
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]


def restore(archive: Path, path: Path) -> Restored:
    """Make the workspace at `path` from a backup. Raises AlluviumError; then nothing is there."""
    workspace = Workspace.at(path)
    _refuse_used(workspace.root)
    contents = read_archive(archive)
    workspace.root.mkdir(parents=True, exist_ok=True)
    part = Workspace(workspace.root / f".restore-{secrets.token_hex(4)}")
    try:
        part.root.mkdir(0o700)
        with Extractor(part.root, contents.superseded) as extractor:
            read_archive(archive, extractor.take)
        notes = anyio.run(_Restoring(part, workspace.root).finish)
        part.make_folders()
        with step("restore.sync_file_system"):
            if not sync_file_system(part.root):
                os.sync()
        with workspace_lock(part):  # goes along with its file: nobody starts a daemon meanwhile
            _move_in(part, workspace)
            findings = verify(workspace, running=False)
            landed = sum(finding.kind is Kind.LANDED_ALREADY for finding in findings)
            if workspace.database.exists():
                anyio.run(_let_go, workspace, landed)
    except BaseException as error:
        with suppress(OSError):
            empty(part.root, lambda: False)
            part.root.rmdir()
        if isinstance(error, OSError | GitFailed):
            reason = f"{workspace.root}: nothing was restored: {reason_of(error)}"
            raise AlluviumError(reason) from error
        raise
    made_at = str(contents.manifest.get("made_at"))
    counted = sum(1 for _ in workspace.tasks.iterdir())
    return Restored(workspace, made_at, counted, bool(landed), tuple(notes), tuple(findings))


def _refuse_used(root: Path) -> None:
    try:
        found = sorted(entry.name for entry in root.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise WorkspaceError(f"{root}: {error.strerror}; name a new or an empty folder") from error
    if found:
        raise WorkspaceError(
            f"{root}: is not empty (it holds {found[0]!r}); a backup is restored into a new or an "
            "empty folder only"
        )


def _move_in(part: Workspace, workspace: Workspace) -> None:
    """Rename everything to its place, what makes it a workspace last."""
    names = [path.name for path in part.root.iterdir() if path.name != STATE_NAME]
    for name in (*names, STATE_NAME):
        with step("restore.rename"):
            rename_noreplace(part.root / name, workspace.root / name)
    part.root.rmdir()
    for folder in (workspace.root, workspace.root.parent):
        with step("restore.sync_folder"):
            fsync_dir(folder)


async def _let_go(workspace: Workspace, landed: int) -> None:
    """Let the new workspace work, unless something of it is done already."""
    store = await Store.open(workspace.database)
    try:
        reason = (await store.conditions(Condition.PAUSED)).get("")
        if landed:
            text = f"restored; {landed} tasks have landed since: 'alluvium-like verify' names them"
            await store.set_condition(Condition.PAUSED, text)
        elif reason == _HELD:
            await store.clear_condition(Condition.PAUSED)
    finally:
        await store.close()


@dataclass(frozen=True, slots=True)
class _Restoring:
    """What was unpacked at `part`, which is to lie at `root`."""

    part: Workspace
    root: Path

    async def finish(self) -> list[str]:
        """Put database and repositories in their places; return what a person has to know."""
        part = self.part
        part.state.mkdir()
        rows = _Rows()
        unpacked = part.root / part.database.name
        if unpacked.exists():
            with step("restore.place_store"):
                unpacked.rename(part.database)
            rows = await _adopt(part.database)
        bundle = part.root / "integration.bundle"
        if bundle.exists():
            await self._make_integration(bundle, rows)
        return await self._make_repo(rows.base_branch)

    async def _make_integration(self, bundle: Path, rows: "_Rows") -> None:
        git, place = Git(_GIT), self.part.integration
        found = await make_from_bundle(git, place, bundle, rows.base_branch, bare=True)
        bundle.unlink()
        shallow = self.part.root / "shallow"
        if shallow.exists():
            with step("restore.place_shallow"):
                shallow.rename(place / shallow.name)
        wanted = rows.refs(found)
        present = await present_commits(git, place, wanted.values())
        known = {name: commit for name, commit in wanted.items() if commit in present}
        tags = {name: commit for name, commit in found.items() if name.startswith("refs/tags/")}
        await set_refs(git, place, known | tags)

    async def _make_repo(self, base_branch: str) -> list[str]:
        """Make the owner's repository from its bundle, where it is the workspace's own."""
        bundle = self.part.root / "repo.bundle"
        if not bundle.exists():
            return []
        try:
            place = load_config(self.part.config_file).repo.at(self.root)
        except ConfigError:
            place = self.root
        if place != self.root / self.part.repo.name:
            return [f"repo.bundle: [repo].path is {place}; to make it: git clone repo.bundle there"]
        git, git_dir = Git(_GIT), self.part.repo / ".git"
        refs = await make_from_bundle(git, git_dir, bundle, base_branch, bare=False)
        await set_refs(git, git_dir, refs)
        if self.part.integration.exists():  # the rows were saved later: what landed in between
            await follow_branch(git, git_dir, self.part.integration, base_branch)
        await fill_work_tree(git, self.part.repo, base_branch)
        bundle.unlink()
        return []


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the rows say about refs."""

    base_branch: str = NEW_BRANCH
    settled: str = ""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    ends: Mapping[str, Set[str]] = field(default_factory=dict)
    landing: Sequence[Row] = ()

    def refs(self, found: Mapping[str, str]) -> dict[str, str]:
        """Return the refs as of the moment of the rows; `found` were read a little later."""
        refs = {name: commit for name, commit in found.items() if self._is_known(name)}
        for task in self.tasks.values():
            ref = task_ref(task.id)
            known = {task.head_commit} | self.ends.get(task.id, set())
            if task.state is not State.DONE and task.head_commit and refs.get(ref) not in known:
                refs[ref] = task.head_commit
        base = self.settled
        for row in self.landing:
            refs[candidate_ref(row["task_id"])] = row["commit_id"]
            base = row["new_commit"]
        if self.settled:
            refs |= {full_ref(self.base_branch): self.settled, BASE_REF: base}
        return refs

    def _is_known(self, ref: str) -> bool:
        """Tell whether a ref is one of a task that has not landed, or none of a task's."""
        owner = task_of_ref(ref)
        return owner is None or (owner in self.tasks and self.tasks[owner].state is not State.DONE)


async def _adopt(path: Path) -> _Rows:
    """Make a saved store a new workspace's own: no claim, no process, an id of its own.

    The processes of the old workspace may be alive, and are not this one's to end.
    """
    store = await Store.open(path)
    try:
        async with store.transaction("restored") as tx:
            for name in ("forget_claims", "forget_processes", "forget_seals", "project_anew"):
                await tx.run(name)
            await tx.run("set_meta", key="workspace_id", value=uuid.uuid4().hex)
        if not await store.conditions(Condition.PAUSED):
            await store.set_condition(Condition.PAUSED, _HELD)
        ends: dict[str, set[str]] = defaultdict(set)
        for row in await store.rows("attempts"):
            ends[row["task_id"]].add(row["end_commit"])
        repositories = await store.rows("repositories")
        settled = await store.rows("settled")
        return _Rows(
            repositories[0]["base_branch"] if repositories else NEW_BRANCH,
            settled[0]["commit_id"] if settled else "",
            {row["id"]: to_task(row) for row in await store.rows("list_tasks")},
            ends,
            [row for row in await store.rows("landings") if is_open(row)],
        )
    finally:
        await store.close()
