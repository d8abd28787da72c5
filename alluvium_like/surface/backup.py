"""backup: everything of a workspace that cannot be made again, in one file, while the daemon runs.

The order makes it whole: the owner's repository, the inbox, the rows, then what rows name. An
item's folder and a commit are there before their row is; what an item became between two readings
is known by its inode, and is restored once. Nothing of the workspace is changed or locked.
"""

import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Final

import anyio

from alluvium_like import __version__
from alluvium_like.clock import utc_now
from alluvium_like.config import load_config
from alluvium_like.durable import fsync_dir, rename_noreplace
from alluvium_like.errors import AlluviumError, GitFailed, UsageError, reason_of
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.bundle import present_commits, write_bundle
from alluvium_like.gitrepo.locate import locate_owner
from alluvium_like.gitrepo.runner import Git
from alluvium_like.guarded import open_folder
from alluvium_like.store.rows import Row
from alluvium_like.store.snapshot import take_snapshot
from alluvium_like.store.writer import Store
from alluvium_like.surface.archive import MAGIC, MANIFEST, Writer, names_in
from alluvium_like.surface.unpack import FORMAT
from alluvium_like.workspace import Workspace

_GIT: Final = "backup"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Saved:
    """What a backup holds, and what could not be saved."""

    path: Path
    bytes: int
    tasks: int
    skipped: tuple[str, ...]


def back_up(workspace: Workspace, target: Path, *, force: bool, with_repo: bool) -> Saved:
    """Write the backup to `target`, which appears whole or not at all. Raises AlluviumError."""
    target = target.absolute()
    _check_target(workspace, target, force=force)
    try:
        with tempfile.TemporaryDirectory(prefix=".alluvium-backup-", dir=target.parent) as folder:
            part = Path(folder) / "archive"
            with part.open("xb") as stream, Writer(stream) as writer:
                part.chmod(0o600)
                tasks = _Backup(workspace, writer, Path(folder)).save(with_repo=with_repo)
                stream.flush()
                with step("backup.sync"):
                    os.fsync(stream.fileno())
                size = stream.tell()
            _publish(part, target, force=force)
    except (OSError, GitFailed) as error:
        raise AlluviumError(f"{target}: no backup was made: {reason_of(error)}") from error
    return Saved(target, size, tasks, tuple(writer.skipped))


def _check_target(workspace: Workspace, target: Path, *, force: bool) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent}: no such folder")
    place = target.parent.resolve() / target.name
    for folder in (*workspace.folders, workspace.state):
        if place.is_relative_to(folder):
            raise UsageError(f"{target}: lies in a folder of the daemon's; put it elsewhere")
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; name a file")
    if os.path.lexists(target):
        if not _may_be_replaced(target):
            raise UsageError(f"{target}: is there already, and is no backup; name another file")
        if not force:
            raise _exists(target)


def _may_be_replaced(target: Path) -> bool:
    """Tell whether a thing looks like a backup, or is an empty file."""
    if not stat.S_ISREG(target.lstat().st_mode):
        return False
    with target.open("rb") as stream:
        return stream.read(len(MAGIC)) in (MAGIC, b"")


def _exists(target: Path) -> AlluviumError:
    return AlluviumError(f"{target}: is there already; --force replaces it")


def _publish(part: Path, target: Path, *, force: bool) -> None:
    try:
        with step("backup.rename"):
            if force:
                part.replace(target)
            else:
                rename_noreplace(part, target)
    except FileExistsError as error:
        raise _exists(target) from error
    with step("backup.sync_folder"):
        fsync_dir(target.parent)


@dataclass(slots=True)
class _Backup:
    workspace: Workspace
    writer: Writer
    scratch: Path
    # What lay in the inbox, by device and inode, and what of it a task has taken since.
    items: dict[tuple[int, int], str] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)

    def save(self, *, with_repo: bool) -> int:
        """Save everything; return how many tasks that was."""
        workspace, writer = self.workspace, self.writer
        manifest = {
            "format": FORMAT,
            "program": __version__,
            "made_at": utc_now(),
            "workspace": str(workspace.root),
        }
        writer.add_bytes(MANIFEST, json.dumps(manifest, indent=2).encode("ascii"))
        with open_folder(workspace.root) as root:
            for file in (workspace.config_file, workspace.prompt_template):
                if file.is_symlink():
                    writer.skipped.append(f"{file.name}: is a link; save what it leads to")
                else:
                    writer.add_entry(root, file.name, file.name)
        if with_repo:
            self._save_bundle("repo.bundle", anyio.run(self._find_repo), frozenset())
        self._save_inbox()
        tasks = set(_names(workspace.tasks))
        rows = self._save_store() if workspace.database.exists() else _Rows()
        for claim in rows.claims:
            tasks.discard(claim["task_id"])
            self._save_claimed(claim)
        self._save_folders(workspace.tasks, tasks | rows.tasks)
        self._save_folders(workspace.quarantine, _names(workspace.quarantine))
        writer.finish(self.superseded)
        return len(rows.tasks)

    def _save_inbox(self) -> None:
        inbox = self.workspace.inbox
        self.writer.add_folder(inbox.name)
        names = _names(inbox)
        with open_folder(inbox.resolve()) as folder:
            for name in names:
                inode = _inode(folder, name)
                if self.writer.add_entry(folder, name, f"inbox/{name}"):
                    self.items[inode] = name

    def _save_claimed(self, claim: Row) -> None:
        """Save the item of a claim in progress as if the claim had not begun.

        It may go from the inbox to its task right now, so it is looked for in this order.
        """
        task, name = self.workspace.task(claim["task_id"]), os.fsdecode(claim["source"])
        inside = (task.root, "input") if claim["is_dir"] else (task.input, name)
        if claim["inode"] in {inode for _, inode in self.items}:
            return
        taken = set(self.items.values())
        free = next(n for n in chain([name], (f"{name}-{i}" for i in count(2))) if n not in taken)
        for parent, entry in ((self.workspace.inbox, name), inside):
            with suppress(FileNotFoundError), open_folder(parent) as folder:
                inode = _inode(folder, entry)
                if inode[1] != claim["inode"]:
                    continue
                if self.writer.add_entry(folder, entry, f"inbox/{free}"):
                    self.items[inode] = free
                    return

    def _save_folders(self, path: Path, entries: Iterable[str]) -> None:
        self.writer.add_folder(path.name)
        if not path.is_dir():
            return
        with open_folder(path.resolve()) as folder:
            for entry in sorted(entries):
                self._note_taken(folder, entry)
                self.writer.add_entry(folder, entry, f"{path.name}/{entry}")

    def _note_taken(self, folder: int, entry: str) -> None:
        """Note which item of the inbox a task, or quarantine, holds by now."""
        for place in (entry, f"{entry}/input") if self.items else ():
            try:
                with _subfolder(folder, place) as opened:
                    found = {_inode(opened, name) for name in names_in(opened)}
            except OSError:  # another kind of entry, or gone: it holds no item
                return
            for inode in found & self.items.keys():
                self.superseded.append(f"inbox/{self.items.pop(inode)}")

    def _save_store(self) -> "_Rows":
        """Save the rows, and the commits that they name."""
        copy = self.scratch / "alluvium.db"
        take_snapshot(self.workspace.database, copy)
        rows = anyio.run(_read_rows, copy)
        self.writer.add_file(copy.name, copy)
        copy.unlink()
        integration = self.workspace.integration
        if (integration / "HEAD").exists():
            self._save_bundle("integration.bundle", integration, rows.commits)
            if (integration / "shallow").exists():
                self.writer.add_file("shallow", integration / "shallow")
        return rows

    def _save_bundle(self, name: str, git_dir: Path, commits: frozenset[str]) -> None:
        bundle = self.scratch / name
        anyio.run(_bundle, git_dir, commits, bundle)
        self.writer.add_file(name, bundle)
        bundle.unlink()

    async def _find_repo(self) -> Path:
        config = load_config(self.workspace.config_file)
        place = config.repo.at(self.workspace.root)
        return (await locate_owner(Git(_GIT), place, config.integration.base_branch)).git_dir


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the saved store says of what lies outside it."""

    tasks: frozenset[str] = frozenset()
    claims: tuple[Row, ...] = ()
    commits: frozenset[str] = frozenset()


async def _read_rows(copy: Path) -> _Rows:
    """Check a copy of the store, bring it to this version's schema, and read it."""
    store = await Store.open(copy)
    try:
        return _Rows(
            frozenset(row["id"] for row in await store.rows("list_tasks")),
            tuple(await store.claims()),
            frozenset(row["commit_id"] for row in await store.rows("commits_named")),
        )
    finally:
        await store.close()


async def _bundle(git_dir: Path, commits: frozenset[str], target: Path) -> None:
    git = Git(_GIT)
    await write_bundle(git, git_dir, await present_commits(git, git_dir, commits), target)


@contextmanager
def _subfolder(folder: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _names(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    with open_folder(path.resolve()) as folder:
        return names_in(folder)


def _inode(folder: int, name: str) -> tuple[int, int]:
    """Return what tells an entry from all others; nothing has the inode 0."""
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return 0, 0
    return facts.st_dev, facts.st_ino
