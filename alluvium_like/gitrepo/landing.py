"""The landing: the one moment at which the daemon writes the owner's repository.

The base only ever fast-forwards to the very commit that was tested. Where the base is checked out,
git's own `merge --ff-only` runs in that worktree with the owner's configuration, so that unrelated
edits survive and overlapping ones make git refuse with nothing changed; never a bare `update-ref`
there: the owner's next commit would revert the merge.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio.to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.runner import Git, first_line, full_ref, null_split
from alluvium_like.gitrepo.workshop import is_object_id, read_untrusted

_GITLINK = "160000"
_CONFIG_BYTES = 1_000_000
_ODD_CONFIG = re.compile(r"worktree|include|refstorage|\bbare\b(?!\s*=\s*false\b)", re.IGNORECASE)
_MANY_PACKS = 40
"""Each landing leaves one. Until then git need not be asked to tidy up; its own limit is 50."""


class Landed(StrEnum):
    """What became of a landing."""

    LANDED = "landed"
    BLOCKED = "blocked"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class LandingEnd:
    """How a landing ended, and what it waits for."""

    result: Landed
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner's repository: its common git folder and its base branch."""

    git_dir: Path
    base_branch: str


async def land(
    git: Git, owner: Owner, integration: Path, old: str, new: str, *, resumed: bool = False
) -> LandingEnd:
    """Advance the owner's base from `old` to `new`; `resumed` when a crash cut that off.

    Raises GitFailed only where the objects cannot be copied; a refusal is a value.
    """
    ref = full_ref(owner.base_branch)
    await git.run(
        "fetch",
        "--quiet",
        "--no-write-fetch-head",
        "--no-tags",
        str(integration),
        new,
        git_dir=owner.git_dir,
    )
    rebasing = await anyio.to_thread.run_sync(_rebased_in, owner.git_dir, ref)
    if rebasing:
        return LandingEnd(Landed.BLOCKED, f"a rebase of {owner.base_branch} is under way")
    holder = await _checked_out_in(git, owner, ref)
    if holder is None:
        refusal = await _move_ref(git, owner, ref, old, new)
    else:
        refusal = await _merge_into(git, owner, holder, new)
        if resumed and refusal and await _adopt_written(git, owner, holder, old, new):
            refusal = await _merge_into(git, owner, holder, new)
    tip = await _tip(git, owner, ref)
    if tip == new:
        return LandingEnd(Landed.LANDED)
    if tip != old:
        return LandingEnd(Landed.MOVED, f"{owner.base_branch} was moved to {tip[:10]}")
    return LandingEnd(Landed.BLOCKED, refusal or "git did not move the base, and gave no reason")


async def _move_ref(git: Git, owner: Owner, ref: str, old: str, new: str) -> str:
    try:
        await git.run(
            "update-ref", "-m", "alluvium-like: landing", ref, new, old, git_dir=owner.git_dir
        )
    except GitFailed as error:
        return _refusal(error)
    return ""


async def _merge_into(git: Git, owner: Owner, worktree: Path, new: str) -> str:
    tidy = await anyio.to_thread.run_sync(_has_many_packs, owner.git_dir)
    try:
        await git.run(
            "-c",
            "core.hooksPath=/dev/null",  # what lands may be the owner's hooks, and an agent's work
            *(() if tidy else ("-c", "maintenance.auto=false")),
            "merge",
            "--quiet",
            "--ff-only",
            "--no-overwrite-ignore",
            "--no-autostash",
            "--no-squash",
            new,
            cwd=worktree,
            owner=True,
        )
    except GitFailed as error:
        return _refusal(error)
    return ""


async def _adopt_written(git: Git, owner: Owner, worktree: Path, old: str, new: str) -> bool:
    """Stage what a killed landing had written already, so that the next merge goes on from there.

    Only when nothing of it is staged and every file that the landing touches is, byte for byte,
    what it was or what it is to become: anything else is the owner's, and then nothing is touched.
    Returns whether it helped.
    """
    done = await git.run("diff-tree", "-r", "-z", "--no-renames", old, new, git_dir=owner.git_dir)
    parts = null_split(done.stdout)
    paths = parts[1::2]
    staged = await git.run(
        "diff-index", "--cached", "-z", "--name-only", old, cwd=worktree, owner=True
    )
    if not set(null_split(staged.stdout)).isdisjoint(paths):
        return False
    found = await _content_ids(git, worktree, paths)
    written: list[str] = []
    for meta, path in zip(parts[::2], paths, strict=True):
        _, new_mode, *ids, _ = meta.split()
        before, after = ("" if not name.strip("0") else name for name in ids)
        if found[path] == after:
            written.append(path)
        elif found[path] != before or new_mode == _GITLINK:
            return False
    if not written:
        return False
    await git.run(
        *("update-index", "--add", "--remove", "-z", "--stdin"),
        cwd=worktree,
        stdin=b"".join(os.fsencode(path) + b"\0" for path in written),
        owner=True,
    )
    return True


async def _content_ids(git: Git, worktree: Path, paths: Sequence[str]) -> dict[str, str]:
    """Return the object id of each file as the owner's Git would store it, empty for none."""
    found = dict.fromkeys(paths, "")
    kinds = await anyio.to_thread.run_sync(lambda: {p: _kind(worktree / p) for p in paths})
    regular = [p for p in paths if kinds[p] == stat.S_IFREG and "\n" not in p]
    names = b"".join(os.fsencode(path) + b"\n" for path in regular)
    done = await git.run("hash-object", "--stdin-paths", cwd=worktree, stdin=names, owner=True)
    found |= dict(zip(regular, done.stdout.decode().split(), strict=True))
    for path in (p for p in paths if kinds[p] and p not in regular):
        found[path] = "neither file nor link"
        if kinds[path] == stat.S_IFLNK:
            target = await anyio.to_thread.run_sync(os.readlink, os.fsencode(worktree / path))
            link = await git.run("hash-object", "--stdin", cwd=worktree, stdin=target, owner=True)
            found[path] = first_line(link)
    return found


def _kind(path: Path) -> int:
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _refusal(error: GitFailed) -> str:
    """Tell what git refused, with the files that are in the way."""
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    files = [line.strip() for line in error.stderr.splitlines() if line.startswith("\t")]
    if files:
        return f"your own changes are in the way: {', '.join(files[:10])}"
    return lines[0].removeprefix("error: ").removeprefix("fatal: ") if lines else str(error)


async def _checked_out_in(git: Git, owner: Owner, ref: str) -> Path | None:
    try:
        return await anyio.to_thread.run_sync(_read_heads, owner.git_dir, ref)
    except _NotPlain:
        return await _listed_in(git, owner, ref)


async def _listed_in(git: Git, owner: Owner, ref: str) -> Path | None:
    done = await git.run("worktree", "list", "--porcelain", "-z", git_dir=owner.git_dir)
    worktree = ""
    for field in null_split(done.stdout):
        key, _, value = field.partition(" ")
        if key == "worktree":
            worktree = value
        elif key == "branch" and value == ref:
            return Path(worktree)
    return None


class _NotPlain(Exception):
    """The repository is laid out in a way that only git itself should read."""


def _read_heads(git_dir: Path, ref: str) -> Path | None:
    """Return the worktree that has `ref` checked out, as the HEAD files say. Raises _NotPlain.

    A process that lists them costs more than a small landing's whole checkout.
    """
    config = read_untrusted(git_dir / "config", _CONFIG_BYTES)
    if git_dir.name != ".git" or not config or _ODD_CONFIG.search(config):
        raise _NotPlain
    if (git_dir / "reftable").exists():  # then HEAD is a file that says nothing
        raise _NotPlain
    if _head_of(git_dir) == ref:
        return git_dir.parent
    for admin in sorted(git_dir.glob("worktrees/*")):
        if _head_of(admin) == ref:
            link = Path(read_untrusted(admin / "gitdir"))
            if not link.is_absolute() or link.name != ".git":
                raise _NotPlain
            return link.parent
    return None


def _head_of(admin: Path) -> str:
    text = read_untrusted(admin / "HEAD")
    if is_object_id(text):
        return ""
    if not text.startswith("ref: refs/"):
        raise _NotPlain
    return text.removeprefix("ref: ")


async def _tip(git: Git, owner: Owner, ref: str) -> str:
    loose = await anyio.to_thread.run_sync(read_untrusted, owner.git_dir / ref)
    if is_object_id(loose):
        return loose
    done = await git.run(
        "rev-parse", "--verify", "--quiet", ref, git_dir=owner.git_dir, accept=frozenset({0, 1})
    )
    return first_line(done)


def _has_many_packs(git_dir: Path) -> bool:
    return len(list(git_dir.glob("objects/pack/*.pack"))) >= _MANY_PACKS


def _rebased_in(git_dir: Path, ref: str) -> bool:
    """Look for a rebase of the base: while it runs, no worktree is reported as holding it."""
    folders = [git_dir, *git_dir.glob("worktrees/*")]
    return any(
        read_untrusted(folder / kind / "head-name") == ref
        for folder in folders
        for kind in ("rebase-merge", "rebase-apply")
    )
