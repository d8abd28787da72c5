"""A pool of warm worktrees over real git, and what agents may do to one."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from alluvium_like.errors import GitFailed
from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo.runner import Git, Identity
from alluvium_like.gitrepo.warm import Limits, WarmTrees
from alluvium_like.gitrepo.workshop import Source, Workshop, make_workshop, set_aside

WHO = Identity("Daemon", "daemon@example.org")
PLENTY = 1_000_000_000


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=Owner", "-c", "user.email=owner@example.org"]
    done = subprocess.run(
        ["git", *identity, *args],
        cwd=folder,
        capture_output=True,
        check=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )
    return os.fsdecode(done.stdout).strip()


@dataclass(frozen=True, slots=True)
class CountingGit(Git):
    """Counts the processes, and fails those that it is told to."""

    calls: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)

    async def run(self, *args: str, **options: Any) -> Completed:
        self.calls.append(args[0])
        if self.full:
            raise GitFailed(list(args), 128, f"fatal: cannot write: {self.full.pop()}\n")
        return await Git.run(self, *args, **options)


class Place:
    """An owner's repository, the daemon's, and a pool of warm trees."""

    def __init__(self, root: Path, object_format: str = "sha1") -> None:
        self.root = root
        self.owner = root / "repo"
        self.integration = root / "integration.git"
        self.object_format = object_format
        for name in ("worktrees", "workshops", "warm", "trash", "repo"):
            (root / name).mkdir()
        git(self.owner, "init", "-q", "-b", "main", f"--object-format={object_format}")
        for name in ("a/one", "a/two", "a/deep/er/three", "b/one", "b/two", "top", "über/\udcff"):
            path = self.owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name!a}\n")
        (self.owner / "run.sh").write_text("#!/bin/sh\n")
        (self.owner / "run.sh").chmod(0o755)
        (self.owner / "link").symlink_to("a/one")
        (self.owner / ".gitignore").write_text("*.o\nbuild/\n")
        self.first = self.commit("first")
        git(root, "clone", "-q", "--bare", str(self.owner), str(self.integration))
        self.git = CountingGit("test")
        self.limits = Limits(4, PLENTY)
        self.pool = self.open()

    def open(self) -> WarmTrees:
        return WarmTrees(self.git, self.root / "warm", self.root / "trash", lambda: self.limits)

    def commit(self, message: str) -> str:
        git(self.owner, "add", "-A")
        git(self.owner, "commit", "-q", "-m", message)
        if self.integration.exists():
            git(self.integration, "fetch", "-q", str(self.owner), "main:main")
        return git(self.owner, "rev-parse", "HEAD")

    def source(self, commit: str = "") -> Source:
        return Source(self.integration, self.object_format, "main", commit or self.first, ())

    def workshop(self, name: str) -> Workshop:
        return Workshop(
            name, self.root / "workshops" / f"{name}.git", self.root / "worktrees" / name
        )

    async def take(self, name: str, commit: str = "") -> Workshop:
        workshop = self.workshop(name)
        await self.pool.take(
            workshop,
            self.source(commit),
            commit=commit or self.first,
            branch=f"task/{name}",
            user=WHO,
        )
        return workshop

    async def tend(self, commit: str = "", wanted: int = 0) -> None:
        while self.pool.due(commit or self.first, wanted):
            if not await self.pool.tend(self.source(commit), wanted, lambda: False):
                return

    async def fresh(self, commit: str = "") -> dict[str, object]:
        """Return what a checkout without any pool looks like."""
        workshop = self.workshop("fresh")
        set_aside(workshop, self.root / "trash")
        await make_workshop(
            Git("test"),
            workshop,
            self.source(commit),
            commit=commit or self.first,
            branch="task/fresh",
            user=WHO,
        )
        found = look(workshop.tree)
        set_aside(workshop, self.root / "trash")
        return found

    def checkouts(self) -> int:
        """Return how many checkouts there were since the last time."""
        made = len(self.git.calls)
        self.git.calls.clear()
        return made


def look(tree: Path) -> dict[str, object]:
    """Return everything that can be seen of a tree but times: each path with its mode and bytes."""
    found: dict[str, object] = {}
    for path in (tree, *tree.rglob("*")):
        held = path.lstat()
        content = b""
        if stat.S_ISREG(held.st_mode):
            content = path.read_bytes()
            assert held.st_nlink == 1, "nobody outside has a name for it"
        elif stat.S_ISLNK(held.st_mode):
            content = os.fsencode(path.readlink())
        shown = b"" if path.name == ".git" else content
        extended = os.listxattr(path, follow_symlinks=False)
        found[str(path.relative_to(tree))] = stat.filemode(held.st_mode), shown, extended
    return found


def git_says_clean(workshop: Workshop) -> bool:
    """Tell whether the agent's own git sees its branch and nothing changed, not by times alone."""
    assert git(workshop.tree, "symbolic-ref", "HEAD") == f"refs/heads/task/{workshop.name}"
    status = git(workshop.tree, "status", "--porcelain", "--ignored")
    index = workshop.admin / "index"
    os.utime(index, (1, 1))  # as if every file was written after it: git reads them all
    return not status and not git(workshop.tree, "status", "--porcelain", "--ignored")


# -- what an agent does -----------------------------------------------------------------------


def same_second(tree: Path) -> None:
    """Change bytes and put back all that can be put back of the times."""
    held = (tree / "top").lstat()
    with (tree / "top").open("r+b") as stream:
        stream.write(b"EVIL")
    os.utime(tree / "top", ns=(held.st_atime_ns, held.st_mtime_ns))


def moved_in(tree: Path) -> None:
    """Bring in files that are older than the checkout, with their times, below known names."""
    old = tree.parents[1] / "old"
    (tree / "b").rename(tree.parents[1] / "gone")
    old.rename(tree / "b")


def swapped(tree: Path) -> None:
    (tree / "a").rename(tree / "x")
    (tree / "b").rename(tree / "a")
    (tree / "x").rename(tree / "b")


def nested(tree: Path) -> None:
    git(tree, "init", "-q", "nested")
    (tree / "nested" / "f").write_text("f")
    git(tree / "nested", "add", "-A")
    git(tree / "nested", "commit", "-q", "-m", "f")
    git(tree / "a", "init", "-q")


def ignored(tree: Path) -> None:
    (tree / "a" / "one.o").write_bytes(b"\0")
    (tree / "build" / "deep").mkdir(parents=True)
    (tree / "build" / "deep" / "out").write_text("out")
    (tree / "node_modules").mkdir()
    (tree / "node_modules" / "m.js").write_text("m")


def locked(tree: Path) -> None:
    (tree / "secret" / "er").mkdir(parents=True)
    (tree / "secret" / "er" / "f").write_text("f")
    for folder in ("secret/er", "secret", "a/deep/er", "a/deep", "a"):
        (tree / folder).chmod(0)


def links(tree: Path) -> None:
    precious = tree.parents[1] / "precious"
    precious.mkdir()
    (precious / "one").write_text("mine")
    shutil.rmtree(tree / "b")
    (tree / "b").symlink_to(precious)
    (tree / "new").symlink_to(precious)
    (tree / "link").unlink()
    (tree / "link").symlink_to("a/two")
    (tree / "top").unlink()
    (tree / "top").symlink_to("run.sh")


def kinds(tree: Path) -> None:
    (tree / "top").unlink()
    (tree / "top").mkdir()
    (tree / "top" / "f").write_text("f")
    shutil.rmtree(tree / "a")
    (tree / "a").write_text("now a file")
    (tree / "link").unlink()
    (tree / "link").write_text("a/one")
    (tree / "run.sh").unlink()
    os.mkfifo(tree / "run.sh")
    os.mkfifo(tree / "pipe")


def modes(tree: Path) -> None:
    (tree / "run.sh").chmod(0o644)
    (tree / "top").chmod(0o755)
    (tree / "a" / "one").chmod(0o600)
    (tree / "b" / "one").chmod(0o4755)
    (tree / "b").chmod(0o2777)
    tree.chmod(0o700)


def deleted(tree: Path) -> None:
    shutil.rmtree(tree / "a")
    (tree / "top").unlink()


def second_names(tree: Path) -> None:
    """Keep names outside by which the files of the next task could be written."""
    os.link(tree / "top", tree.parents[1] / "handle")
    (tree / "b" / "one").unlink()
    os.link(tree.parents[1] / "old" / "one", tree / "b" / "one")


def empty_folders(tree: Path) -> None:
    (tree / "empty" / "er").mkdir(parents=True)
    (tree / "a" / "hollow").mkdir()


def git_state(tree: Path) -> None:
    git(tree, "update-index", "--skip-worktree", "top")
    (tree / "top").write_text("hidden")
    git(tree, "update-index", "--assume-unchanged", "run.sh")
    (tree / "run.sh").write_text("hidden")
    git(tree, "sparse-checkout", "set", "--no-cone", "/a/")
    (tree / ".git").unlink()
    (tree / ".git").mkdir()
    (tree / ".git" / "HEAD").write_text("x")


def commits(tree: Path) -> None:
    (tree / "a" / "one").write_text("committed")
    (tree / "added").write_text("added")
    (tree / ".gitattributes").write_text("* text eol=crlf\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "work")


def attributes_of_files(tree: Path) -> None:
    os.setxattr(tree / "top", "user.mark", b"x")
    os.setxattr(tree / "a", "user.mark", b"x")


DEEDS: list[Callable[[Path], None]] = [
    *(same_second, moved_in, swapped, nested, ignored, locked, links, kinds, modes, deleted),
    *(second_names, empty_folders, git_state, commits),
]


def only_owners_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let renames fail for us as the kernel lets them fail for whoever is not root."""
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        held = source.lstat().st_mode
        moves_folder = stat.S_ISDIR(held) and source.parent != target.parent
        locked = [source] if moves_folder and not held & stat.S_IWUSR else []
        locked += [p for p in (source.parent, target.parent) if p.stat().st_mode & 0o300 != 0o300]
        if locked:
            raise PermissionError(13, "Permission denied", str(locked[0]))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)


def nest(folder: Path, depth: int, leaf: str = "") -> None:
    """Make folders in folders, deeper than any path may be long."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("dd", dir_fd=fd)
        inner = os.open("dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    if leaf:
        os.close(os.open(leaf, os.O_CREAT, dir_fd=fd))
    os.close(fd)
