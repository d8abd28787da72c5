"""Warm worktrees: the files of ended tasks, cleaned and brought to the newest base for the next.

The pool prefers what needs least: a tree at the very commit (no process), a clean one at another, a
used one. A tree is used from when it is handed over until it was cleaned, after a restart too.
Being warm is a gift: whatever fails here ends in the trash, and the workshop is made as without it.
"""

import errno
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread

from alluvium_like.clock import monotonic
from alluvium_like.deletion import empty, to_trash
from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.berth import Berth, adopt, find_left, new_berth
from alluvium_like.gitrepo.cleaning import Fresh, UnusableTree, look_of_fresh
from alluvium_like.gitrepo.runner import Git, Identity
from alluvium_like.gitrepo.workshop import (
    Source,
    Workshop,
    check_out,
    make_workshop,
    set_aside,
    write_repository,
)
from alluvium_like.log import get_logger
from alluvium_like.trouble import Trouble, trouble_of

log = get_logger(__name__)

_FAILURES = (GitFailed, UnusableTree, OSError)
_PAUSE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many trees the pool may hold, and how many bytes all of them together."""

    trees: int
    disk_bytes: int


def _never() -> bool:
    return False


class WarmTrees:
    """The pool of one repository; to be used from the event loop."""

    def __init__(self, git: Git, folder: Path, trash: Path, limits: Callable[[], Limits]) -> None:
        self._git = git
        self._folder = folder
        self._trash = trash
        self._limits = limits
        self._pool: list[Berth] = []
        self._out: dict[Path, Berth] = {}
        self._fresh: Fresh | None = None
        self._usual_size = 0
        self._no_new_before = -math.inf

    async def reopen(self) -> None:
        """Take up what an earlier daemon left, as used. Raises OSError."""
        self._pool = await anyio.to_thread.run_sync(find_left, self._folder, self._trash)
        self._out = {}

    async def take(
        self, workshop: Workshop, source: Source, *, commit: str, branch: str | None, user: Identity
    ) -> None:
        """Make a fresh workshop whose tree holds `commit`, out of a warm tree where there is one.

        What a killed attempt left in the same places is thrown away. Raises GitFailed or OSError.
        """
        if stale := self._out.pop(workshop.tree, None):
            await self._throw_away(stale)
        berth = await self._ready(source, commit)

        def hand_over(berth: Berth) -> None:
            set_aside(workshop, self._trash)
            write_repository(workshop, source, commit, branch, user)
            berth.hand_over(workshop)

        if berth is not None:
            try:
                with anyio.CancelScope(shield=True):  # else it would be in neither place
                    await anyio.to_thread.run_sync(hand_over, berth)
            except OSError:
                log.exception("warm_tree_not_handed_over")
                await self._throw_away(berth)
            else:
                self._out[workshop.tree] = berth
                return
        make = partial(self._make_cold, workshop, source, commit, branch, user)
        try:
            await make()
        except (GitFailed, OSError) as error:
            if trouble_of(error) is not Trouble.DISK:
                raise
            await self._release_disk()
            await make()

    async def give_back(self, workshop: Workshop) -> None:
        """Take a workshop away: its files into the pool as used, all else to the trash.

        To be called when nothing of what ran in it is left. What cannot be moved stays and is told:
        whatever was done to it says nothing about the work.
        """
        berth = self._out.pop(workshop.tree, None)
        if berth is None or not self._has_room_for(berth.size):
            await self._throw_both_away(workshop, berth)
            return
        berth.clean = False
        self._pool.append(berth)

        def put_back() -> bool:
            kept = berth.put_back(workshop)
            if not kept:
                self._discard(berth)
            self._discard(workshop)
            return kept

        async with berth.lock:
            kept = False
            try:
                kept = await anyio.to_thread.run_sync(put_back)
            finally:
                berth.lost = not kept
                if berth.lost and berth in self._pool:
                    self._pool.remove(berth)

    async def throw_away(self, workshop: Workshop) -> None:
        """Take a workshop away, its files too: there was something odd about it."""
        await self._throw_both_away(workshop, self._out.pop(workshop.tree, None))

    def due(self, commit: str, wanted: int) -> bool:
        """Tell whether there is anything to do in the background."""
        return self._is_over() or self._next(commit) is not None or self._lacks(wanted)

    async def tend(self, source: Source, wanted: int, interrupted: Callable[[], bool]) -> bool:
        """Do one thing in the background; false when nothing is left that can be done now.

        A tree too many is thrown away; one that is not at the base is brought there; one is made
        where there are fewer than `wanted`, those that are out included. Raises Interrupted.
        """
        if self._is_over():
            surplus = min(self._pool, key=lambda it: (it.lock.locked(), it.clean))
            async with surplus.lock:
                if surplus in self._pool:
                    await self._throw_away(surplus)
            return True
        berth = self._next(source.base_commit)
        try:
            if berth is None and self._lacks(wanted):
                berth = await anyio.to_thread.run_sync(self._begin_new)
                self._pool.append(berth)
            if berth is None:
                return False
            async with berth.lock:
                await self._bring(berth, source, source.base_commit, interrupted)
        except _FAILURES:
            log.warning("warm_tree_not_made", exc_info=True)
            self._no_new_before = monotonic() + _PAUSE_SECONDS
            if berth is not None:
                await self._throw_away(berth)
        return True

    # -- which tree ----------------------------------------------------------------------------

    def _held(self) -> int:
        return sum(berth.size or self._usual_size for berth in self._pool)

    def _is_over(self) -> bool:
        limits = self._limits()
        return len(self._pool) > limits.trees or self._held() > limits.disk_bytes

    def _has_room_for(self, size: int) -> bool:
        limits = self._limits()
        fits = self._held() + (size or self._usual_size) <= limits.disk_bytes
        return fits and len(self._pool) < limits.trees

    def _lacks(self, wanted: int) -> bool:
        few = len(self._pool) + len(self._out) < wanted
        return few and self._has_room_for(0) and monotonic() >= self._no_new_before

    def _next(self, commit: str) -> Berth | None:
        def is_due(berth: Berth) -> bool:
            return not (berth.lock.locked() or (berth.clean and berth.commit == commit))

        return next(filter(is_due, self._pool), None)

    async def _ready(self, source: Source, commit: str) -> Berth | None:
        """Take the tree that needs least out of the pool and bring it to `commit`.

        One that is worked on just now is waited for: that takes less than to begin another. Who is
        cancelled leaves it to the pool, as used.
        """
        if not self._pool or not self._limits().trees:
            return None

        def needs(berth: Berth) -> tuple[bool, ...]:
            return berth.lock.locked(), not berth.clean, berth.commit != commit

        berth = min(self._pool, key=needs)
        self._pool.remove(berth)
        try:
            async with berth.lock:
                if berth.lost:
                    return None
                await self._bring(berth, source, commit, _never)
        except _FAILURES:
            log.warning("warm_tree_not_usable", exc_info=True)
            await self._throw_away(berth)
            return None
        except anyio.get_cancelled_exc_class():
            if not berth.lost:
                self._pool.append(berth)
            raise
        return berth

    # -- one tree ------------------------------------------------------------------------------

    async def _bring(
        self, berth: Berth, source: Source, commit: str, interrupted: Callable[[], bool]
    ) -> None:
        """Make a tree be what a fresh checkout of `commit` would be."""
        in_thread = anyio.to_thread.run_sync
        if not berth.clean and berth.made:
            berth.clean = await in_thread(self._scrub, berth, source, interrupted)
        if berth.clean and berth.commit == commit:
            return
        berth.clean, berth.commit = False, ""
        await check_out(self._git, source.integration, berth.tree, berth.index, commit)
        if not await in_thread(berth.mark, source):
            await in_thread(berth.empty, self._trash)
            await check_out(self._git, source.integration, berth.tree, berth.index, commit)
            await in_thread(berth.mark, source)
        berth.clean, berth.commit = True, commit
        self._usual_size = berth.size

    def _scrub(self, berth: Berth, source: Source, interrupted: Callable[[], bool]) -> bool:
        if self._fresh is None:
            self._fresh = look_of_fresh(self._folder)
        return berth.scrub(source, self._fresh, self._trash, interrupted)

    def _begin_new(self) -> Berth:
        if shutil.disk_usage(self._folder).free < 2 * self._usual_size:
            raise OSError(errno.ENOSPC, "there is no room for one more warm worktree")
        berth = new_berth(self._folder)
        berth.tree.mkdir()
        return berth

    async def _make_cold(
        self, workshop: Workshop, source: Source, commit: str, branch: str | None, user: Identity
    ) -> None:
        await anyio.to_thread.run_sync(set_aside, workshop, self._trash)
        await make_workshop(self._git, workshop, source, commit=commit, branch=branch, user=user)
        if not self._limits().trees:
            return
        try:
            berth = await anyio.to_thread.run_sync(adopt, self._folder, workshop, commit)
        except OSError:
            log.exception("worktree_not_kept_warm")
        else:
            self._out[workshop.tree] = berth

    async def _throw_away(self, berth: Berth) -> None:
        berth.lost = True
        if berth in self._pool:
            self._pool.remove(berth)
        await anyio.to_thread.run_sync(self._discard, berth)

    async def _throw_both_away(self, workshop: Workshop, berth: Berth | None) -> None:
        if berth is not None:
            await self._throw_away(berth)
        await anyio.to_thread.run_sync(self._discard, workshop)

    def _discard(self, thing: Berth | Workshop) -> None:
        try:
            if isinstance(thing, Berth):
                to_trash(thing.folder, self._trash)
            else:
                set_aside(thing, self._trash)
        except OSError:
            log.exception("not_thrown_away", path=str(thing.tree))

    async def _release_disk(self) -> None:
        """Delete every tree now: no task fails for want of the room that they take up."""
        held, self._pool = self._pool, []
        for berth in held:
            async with berth.lock:
                await self._throw_away(berth)
        try:
            await anyio.to_thread.run_sync(empty, self._trash, _never)
        except OSError:
            log.exception("trash_not_emptied")
        log.warning("warm_trees_deleted", trees=len(held))
