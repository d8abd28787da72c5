"""One task's own bare repository and the worktree that hangs on it.

Both are made by writing the few files that git's formats ask for (a process each would cost more
than the checkout), then one `read-tree` fills the tree. The workshop borrows integration.git's
objects read-only. The agent may write all of it and harms only itself: nothing here is trusted
after the agent ran, and the daemon keeps its own copy of the clean index beside it.
"""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from alluvium_like.deletion import to_trash
from alluvium_like.gitrepo.runner import Git, Identity, full_ref
from alluvium_like.log import get_logger
from alluvium_like.trouble import trouble_of

log = get_logger(__name__)

_HEX = frozenset("0123456789abcdef")
STASH = "a stash"
"""Stands among the branches for what `git stash` put away; no branch can be called so."""
_PACKED_REFS_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """What a workshop borrows from: the daemon's repository and what it holds."""

    integration: Path
    object_format: str
    base_branch: str
    base_commit: str
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Workshop:
    """The places of one task's repository and worktree.

    `folder` is one that holds nothing else, where there is one: it leaves whole.
    """

    name: str
    git_dir: Path
    tree: Path
    folder: Path | None = None

    @property
    def admin(self) -> Path:
        """The worktree's own folder inside the repository."""
        return self.git_dir / "worktrees" / self.name

    @property
    def index(self) -> Path:
        """The daemon's index of the tree as it was given out; no agent's git uses it."""
        return self.git_dir.with_suffix(".index")

    @property
    def alternates(self) -> Path:
        """Where the borrowing is written down."""
        return self.git_dir / "objects" / "info" / "alternates"


async def make_workshop(
    git: Git, workshop: Workshop, source: Source, *, commit: str, branch: str | None, user: Identity
) -> None:
    """Make a fresh workshop whose tree holds `commit`, on `branch` or detached.

    What a killed attempt left in the same places must be discarded before. Raises GitFailed.
    """

    def begin() -> None:
        write_repository(workshop, source, commit, branch, user)
        workshop.tree.mkdir(parents=True)
        hang_tree(workshop)

    await anyio.to_thread.run_sync(begin)
    await check_out(git, workshop.admin, workshop.tree, workshop.index, commit)
    await anyio.to_thread.run_sync(shutil.copyfile, workshop.index, workshop.admin / "index")


async def check_out(git: Git, git_dir: Path, tree: Path, index: Path, commit: str) -> None:
    """Bring a tree from what its index says, or from nothing, to `commit`. Raises GitFailed."""
    await git.run(
        "read-tree", "--reset", "-u", commit, git_dir=git_dir, work_tree=tree, index=index
    )


async def merge_into_tree(git: Git, workshop: Workshop, commit: str, user: Identity) -> None:
    """Merge `commit` in the fresh tree and leave what conflicts there, as git itself would."""
    await git.run(
        "merge",
        "--no-commit",
        "--no-ff",
        "--no-edit",
        commit,
        git_dir=workshop.admin,
        work_tree=workshop.tree,
        author=user,
        committer=user,
        accept=frozenset({0, 1}),
    )


def set_aside(workshop: Workshop, trash: Path) -> None:
    """Take a workshop away by rename, to be deleted later; missing parts are fine.

    Raises the first OSError when all was tried.
    """
    parts = (workshop.tree, workshop.git_dir, workshop.index)
    errors = []
    for path in parts if workshop.folder is None else (workshop.folder,):
        try:
            if os.path.lexists(path):
                to_trash(path, trash)
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@dataclass(frozen=True, slots=True)
class Head:
    """Where the agent left its worktree: on a branch, or detached at a commit, or unreadable."""

    branch: str
    commit: str


def read_head(workshop: Workshop) -> Head:
    """Read the worktree's HEAD as plain text; it is data from an agent, never followed."""
    text = read_untrusted(workshop.admin / "HEAD")
    if text.startswith("ref: refs/heads/"):
        return Head(text.removeprefix("ref: refs/heads/"), "")
    return Head("", text if is_object_id(text) else "")


def read_branches(workshop: Workshop) -> dict[str, str]:
    """Read the workshop's branches as plain files, loose before packed; nothing is followed.

    A process to list them would cost more than the fetch. What is no object id is no branch: the
    fetch proves that what is named exists.
    """
    found: dict[str, str] = {}
    for line in read_untrusted(workshop.git_dir / "packed-refs", _PACKED_REFS_BYTES).split("\n"):
        commit, _, name = line.partition(" ")
        if name.startswith("refs/heads/") and is_object_id(commit):
            found[name.removeprefix("refs/heads/")] = commit
    heads = workshop.git_dir / "refs" / "heads"
    for entry in walk(heads):
        if entry.is_file(follow_symlinks=False):
            commit = read_untrusted(Path(entry.path))
            if is_object_id(commit):
                found[str(Path(entry.path).relative_to(heads))] = commit
    stash = read_untrusted(workshop.git_dir / "refs" / "stash")
    if is_object_id(stash):
        found[STASH] = stash
    return found


def walk(folder: Path, closed: str = "") -> Iterator[os.DirEntry[str]]:
    """Yield whatever is in a folder, at any depth; no link is entered, nor what is called `closed`.

    What may not be read is passed over. Raises OSError where paths are too long for the system.
    """
    left = [os.fspath(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as listing:
                entries = list(listing)
        except (PermissionError, FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and entry.name != closed:
                left.append(entry.path)
            yield entry


def read_untrusted(path: Path, limit: int = 4096) -> str:
    """Read the beginning of a text file, never following links or waiting; empty for others.

    Raises OSError where the machine is in trouble.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if trouble_of(error):
            raise
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, limit).decode(errors="replace").strip()
    finally:
        os.close(fd)


def is_object_id(text: str) -> bool:
    """Tell whether a text is a full object id of either hash."""
    return len(text) in (40, 64) and _HEX.issuperset(text)


def is_real_folder(path: Path) -> bool:
    """Tell whether a path is a folder itself, and no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError as error:
        if trouble_of(error):
            raise
        return False


def write_repository(
    workshop: Workshop, source: Source, commit: str, branch: str | None, user: Identity
) -> None:
    """Write the repository that the tree will hang on; blocks. Raises OSError."""
    git_dir, admin = workshop.git_dir, workshop.admin
    for folder in (git_dir / "objects" / "info", git_dir / "objects" / "pack", admin):
        folder.mkdir(parents=True)
    (git_dir / "config").write_text(_config_text(source, user))
    workshop.alternates.write_text(f"{source.integration / 'objects'}\n")
    _write_refs(git_dir, source, commit, branch)
    (admin / "HEAD").write_text(f"{commit if branch is None else f'ref: {full_ref(branch)}'}\n")
    (admin / "commondir").write_text("../..\n")
    (admin / "gitdir").write_text(f"{workshop.tree / '.git'}\n")


def hang_tree(workshop: Workshop) -> None:
    """Write into the tree which repository it hangs on; blocks. Raises OSError."""
    (workshop.tree / ".git").write_text(f"gitdir: {workshop.admin}\n")


def _config_text(source: Source, user: Identity) -> str:
    version, extensions = 0, ""
    if source.object_format != "sha1":
        version = 1
        extensions = f"[extensions]\n\tobjectFormat = {source.object_format}\n"
    return (
        f"[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n"
        f"{extensions}[user]\n\tname = {_quoted(user.name)}\n\temail = {_quoted(user.email)}\n"
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def _write_refs(git_dir: Path, source: Source, commit: str, branch: str | None) -> None:
    (git_dir / "HEAD").write_text(f"ref: {full_ref(source.base_branch)}\n")
    heads = [(full_ref(source.base_branch), source.base_commit)]
    if branch is not None:
        heads.append((full_ref(branch), commit))
    (git_dir / "refs" / "heads").mkdir(parents=True)
    (git_dir / "packed-refs").write_text(_packed([*heads, *source.tags]))


def _packed(refs: Sequence[tuple[str, str]]) -> str:
    """Return a file without the header that git writes, which may be left out.

    "peeled" in it would promise something about tags, and GitPython, through which some agents read
    Git, trips over a header without that word.
    """
    return "".join(f"{commit} {name}\n" for name, commit in sorted(refs))


def set_aside_all(folder: Path, trash: Path) -> None:
    """Take everything in a folder of workshops, worktrees or slots away by rename.

    What cannot be moved stays, and is told. Raises OSError where the folder itself is the trouble.
    """
    for path in folder.iterdir():
        try:
            to_trash(path, trash)
        except OSError:
            log.exception("left_where_it_is", path=str(path))
