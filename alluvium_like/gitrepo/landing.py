"""The landing: the one moment at which the daemon writes the owner's repository.

The base only ever fast-forwards to the very commit that was tested. Where the base is checked out,
git's own `merge --ff-only` runs in that worktree with the owner's configuration, so that unrelated
edits survive and overlapping ones make git refuse with nothing changed; never a bare `update-ref`
there: the owner's next commit would revert the merge.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio.to_thread

from alluvium_like.clock import time_of_day
from alluvium_like.errors import GitFailed
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.checkouts import (
    checkouts_of,
    followed,
    locks_of,
    places_of,
    rebased_in,
    waits_for,
)
from alluvium_like.gitrepo.half_landed import take_up_written
from alluvium_like.gitrepo.locks import lock_in_the_way, release
from alluvium_like.gitrepo.runner import MOST_LOCKS, Git, first_line, full_ref
from alluvium_like.gitrepo.workshop import is_object_id, read_untrusted
from alluvium_like.trouble import trouble_of

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
    """The owner's repository: its common git folder, its base branch, and the path to it.

    `network` is the type of the file system where other machines may be at work there.
    """

    git_dir: Path
    base_branch: str
    path: Path
    network: str = ""


async def land(
    git: Git,
    owner: Owner,
    integration: Path,
    old: str,
    new: str,
    *,
    cut_off: float | None = None,
) -> LandingEnd:
    """Advance the owner's base from `old` to `new`.

    `cut_off`: when a landing began (seconds since 1970) that was cut off, and may have left locks.
    Raises GitFailed only where git was killed or the machine is in trouble, which cuts this one
    off; a refusal is a value.
    """
    ref = await anyio.to_thread.run_sync(followed, owner.git_dir, full_ref(owner.base_branch))
    waits = "git did not move the base, and gave no reason"
    for _ in range(MOST_LOCKS):
        try:
            waits = await _advance(git, owner, integration, ref, old, new, cut_off) or waits
            break
        except _Locked as error:
            lock = error.lock
        except GitFailed as error:
            if error.code < 0 or trouble_of(error):
                raise
            found = lock_in_the_way(error.stderr)
            if found is None:
                waits = _refusal(error)
                break
            lock = found
        if held := await anyio.to_thread.run_sync(_release, lock, owner, cut_off):
            waits = held
            break
    tip = await _tip(git, owner, ref)
    if tip == new:
        return LandingEnd(Landed.LANDED)
    if tip != old:
        return LandingEnd(Landed.MOVED, f"{owner.base_branch} was moved to {tip[:10]}")
    return LandingEnd(Landed.BLOCKED, waits)


async def release_landed(git: Git, owner: Owner, cut_off: float) -> None:
    """Take away the locks of a landing that was cut off when the base had moved already.

    Nothing of the daemon's would meet them before the next landing, but the owner's next commit.
    Raises GitFailed.
    """
    ref = await anyio.to_thread.run_sync(followed, owner.git_dir, full_ref(owner.base_branch))
    for tree in await checkouts_of(git, owner.git_dir, ref, owner.path):
        await _release_all(owner, ref, tree, cut_off)


class _Locked(Exception):
    """A lock is in the way."""

    def __init__(self, lock: Path) -> None:
        super().__init__(lock)
        self.lock = lock


async def _advance(
    git: Git, owner: Owner, integration: Path, ref: str, old: str, new: str, cut_off: float | None
) -> str:
    """Bring the objects and move the base, or tell what is waited for.

    Raises GitFailed and _Locked.
    """
    await git.run(
        "fetch",
        "--quiet",
        "--no-write-fetch-head",
        "--no-tags",
        str(integration),
        new,
        git_dir=owner.git_dir,
    )
    if await anyio.to_thread.run_sync(rebased_in, owner.git_dir, ref):
        return f"a rebase of {owner.base_branch} is under way; finish or abort it"
    trees = await checkouts_of(git, owner.git_dir, ref, owner.path)
    if waits := await anyio.to_thread.run_sync(waits_for, owner.git_dir, trees):
        return waits
    with step("landing.ref"):
        if await _tip(git, owner, ref) != old:
            return ""  # a fast-forward from further back would bring again what was taken out
        if trees:
            for lock in await anyio.to_thread.run_sync(locks_of, owner.git_dir, ref, trees[0]):
                raise _Locked(lock)
            begun = time_of_day()
            await _merge_into(git, owner, trees[0], old, new, cut_off)
            await _release_all(owner, ref, trees[0], begun)
        else:
            words = ("-m", "alluvium-like: landing", ref, new, old)
            await git.run("update-ref", *words, git_dir=owner.git_dir)
    return ""


async def _merge_into(
    git: Git, owner: Owner, worktree: Path, old: str, new: str, cut_off: float | None
) -> None:
    try:
        await _merge(git, owner, worktree, new)
    except GitFailed as error:
        if not _in_the_way(error):
            raise
        if not await take_up_written(git, owner.git_dir, worktree, old, new, cut_off):
            raise
        await _merge(git, owner, worktree, new)


async def _merge(git: Git, owner: Owner, worktree: Path, new: str) -> None:
    tidy = await anyio.to_thread.run_sync(_has_many_packs, owner.git_dir)
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


def _in_the_way(error: GitFailed) -> list[str]:
    return [line.strip() for line in error.stderr.splitlines() if line.startswith("\t")]


def _refusal(error: GitFailed) -> str:
    """Tell what git refused, with the files that are in the way."""
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    if files := _in_the_way(error):
        return f"your own changes are in the way: {', '.join(files[:10])}"
    return lines[0].removeprefix("error: ").removeprefix("fatal: ") if lines else str(error)


async def _tip(git: Git, owner: Owner, ref: str) -> str:
    loose = await anyio.to_thread.run_sync(read_untrusted, owner.git_dir / ref)
    if is_object_id(loose):
        return loose
    done = await git.run(
        "rev-parse", "--verify", "--quiet", ref, git_dir=owner.git_dir, accept=frozenset({0, 1})
    )
    return first_line(done)


async def _release_all(owner: Owner, ref: str, tree: Path, since: float) -> None:
    """Take away the locks that a merge left in `tree`: git goes on where it cannot unlink one."""
    for lock in await anyio.to_thread.run_sync(locks_of, owner.git_dir, ref, tree):
        await anyio.to_thread.run_sync(_release, lock, owner, since)


def _release(lock: Path, owner: Owner, cut_off: float | None) -> str:
    return release(lock, places_of(owner.git_dir), cut_off, owner.network)


def _has_many_packs(git_dir: Path) -> bool:
    return len(list(git_dir.glob("objects/pack/*.pack"))) >= _MANY_PACKS
