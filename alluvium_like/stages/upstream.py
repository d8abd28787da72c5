"""Upstream: keeps the base and its branch at a remote in step, where `[integration] push` asks so.

It looks after each landing and once a minute, and never holds up the lane. What is to be pushed is
seen by comparison, so nothing is lost by a crash. Where others were first it asks the lane to move
the base, or makes one task that merges both; where anybody rewrote what both had in common it asks
a person. Nothing is ever forced. It is the only writer of the condition `upstream`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

import anyio

from alluvium_like import messages
from alluvium_like.errors import reason_of
from alluvium_like.gitrepo.remote import Pushed, Rejected, Remote, Unreachable, open_remote
from alluvium_like.gitrepo.runner import first_line
from alluvium_like.lifecycle import ENDED, Condition, State
from alluvium_like.log import get_logger
from alluvium_like.stages.escapes import is_frozen
from alluvium_like.stages.making import make_task_folder
from alluvium_like.stages.parts import (
    SLOW_LOOK_SECONDS,
    Parts,
    last_pulled,
    pulled_key,
    tell_condition,
)
from alluvium_like.task import new_task_id

log = get_logger(__name__)

FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 600.0
_RACES = 3


class Standing(StrEnum):
    """How the remote's branch stands to the base."""

    EVEN = "even"
    BEHIND = "behind"
    AHEAD = "ahead"
    DIVERGED = "diverged"
    REWRITTEN = "rewritten"  # the remote's branch lost what both had in common
    BASE_REWRITTEN = "base_rewritten"


@dataclass(frozen=True, slots=True)
class _Found:
    """What people are to know after a look, and whether it failed and is soon to be repeated."""

    reason: str = ""
    failed: bool = False


_WELL = _Found()


class Upstream:
    """The stage that pushes, and takes up what others pushed."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._failures = 0
        self._looked_at = ""

    @property
    def idle(self) -> bool:
        """Tell whether the base as it is was compared, and pushed or tried to be."""
        parts = self._parts
        if not parts.settings.current.integration.push:
            return True
        return self._looked_at == parts.integration.seen and not parts.ahead.is_due

    async def run(self) -> None:
        """Keep in step until the daemon stops; a push under way is cut off then."""
        wakes = self._parts.wakes
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_at_stop, tasks.cancel_scope)
            while not self._parts.runs.stopping:
                pause = await self.look()
                wakes.idle.set()
                await wakes.upstream.wait(pause)
            tasks.cancel_scope.cancel()

    async def look(self) -> float:
        """Compare once and do what follows; return after how many seconds to look again."""
        parts = self._parts
        name = parts.settings.current.integration.push
        seen = parts.integration.seen
        try:
            found = await self._look(name) if name else _WELL
            if not name:
                parts.ahead.ask("")
            if found.reason:
                await parts.store.set_condition(Condition.UPSTREAM, found.reason, parts.repository)
            else:
                await parts.store.clear_condition(Condition.UPSTREAM, parts.repository)
        except Exception as error:
            if not parts.health.tell(error):
                log.exception("upstream_failed")
            found = _Found(reason_of(error), failed=True)
            await tell_condition(parts, Condition.UPSTREAM, found.reason, parts.repository)
        self._looked_at = seen
        self._failures = self._failures + 1 if found.failed else 0
        if found.failed:
            log.warning("upstream_out_of_step", reason=found.reason, failures=self._failures)
            return pause_after(self._failures)
        return SLOW_LOOK_SECONDS if name else math.inf

    async def _end_at_stop(self, scope: anyio.CancelScope) -> None:
        await self._parts.runs.stop_asked.wait()
        scope.cancel()

    async def _look(self, name: str) -> _Found:
        parts = self._parts
        if await is_frozen(parts):
            parts.ahead.ask("")
            return _Found(messages.push_held(f"{name}/{parts.integration.base_branch}"))
        known = await parts.store.repository(parts.repository)
        place = Path(known.path) if known is not None else parts.workspace.root
        store = parts.integration.path
        remote = await open_remote(parts.git, parts.owner, store, name, place)
        title = f"{name}/{parts.integration.base_branch}"
        if isinstance(remote, Unreachable):
            return _Found(messages.not_pushed(title, remote.reason), failed=True)
        for _ in range(_RACES):
            end = await self._meet(remote)
            if isinstance(end, _Found):
                return end
            if isinstance(end, Unreachable):
                return _Found(messages.not_pushed(title, end.reason), failed=True)
        return _Found(messages.not_pushed(title, "others were quicker each time"), failed=True)

    async def _meet(self, remote: Remote) -> _Found | Rejected | Unreachable:
        """Compare with the remote and do what follows."""
        parts, contains = self._parts, self._parts.integration.history.contains
        if await parts.integration.refresh():
            parts.wakes.integrate.set()
        tip = await remote.tip()
        if isinstance(tip, Unreachable):
            return tip
        if tip and not await contains(tip, parts.integration.seen):
            tip = await remote.fetch(tip)
            if isinstance(tip, Unreachable):
                return tip
        seen = parts.integration.seen
        standing = await self._compare(remote, tip, seen)
        parts.ahead.ask(tip if standing is Standing.AHEAD else "")
        match standing:
            case Standing.EVEN:
                await _agree(remote, tip)
                return _WELL
            case Standing.BEHIND:
                return await self._push(remote, tip, seen)
            case Standing.AHEAD:
                return self._ask_lane(remote)
            case Standing.DIVERGED:
                return await self._merge(remote, tip, seen)
            case Standing.REWRITTEN:
                return _Found(messages.upstream_rewritten(remote.title, remote.branch))
            case Standing.BASE_REWRITTEN:
                return _Found(messages.base_rewritten(remote.title, remote.branch))
            case _:
                assert_never(standing)

    async def _compare(self, remote: Remote, tip: str, seen: str) -> Standing:
        """Tell how two commits stand to each other, and to what both sides had in common.

        Where both have lost that, they were brought together by hand, and it no longer counts.
        """
        contains = self._parts.integration.history.contains
        agreed = await remote.agreed()
        if tip == seen:
            return Standing.EVEN
        if not tip:
            return Standing.REWRITTEN if agreed else Standing.BEHIND
        if agreed:
            here, there = await contains(agreed, seen), await contains(agreed, tip)
            if here != there:
                return Standing.REWRITTEN if here else Standing.BASE_REWRITTEN
        if await self._lost_what_is_pulled(remote, tip, seen):
            return Standing.REWRITTEN
        if await contains(tip, seen):
            return Standing.BEHIND
        return Standing.AHEAD if await contains(seen, tip) else Standing.DIVERGED

    async def _lost_what_is_pulled(self, remote: Remote, tip: str, seen: str) -> bool:
        """Tell whether the remote lost what a task merges, or has merged, from it."""
        contains = self._parts.integration.history.contains
        pulled = await last_pulled(self._parts)
        if pulled is None or await contains(pulled.tip, tip):
            return False
        task = await self._parts.store.get(pulled.task_id)
        if task.name != remote.title:  # another remote was named then
            return False
        return task.state not in ENDED or await contains(pulled.tip, seen)

    async def _push(self, remote: Remote, tip: str, seen: str) -> _Found | Rejected | Unreachable:
        if tip:
            await _agree(remote, tip)
        if await is_frozen(self._parts):  # to ask the remote took its time
            return _WELL
        end = await remote.push(seen)
        if not isinstance(end, Pushed):
            return end
        if remote.is_one_place:
            await _agree(remote, seen)
        log.info("pushed", remote=remote.title, commit=seen[:10])
        return _WELL

    def _ask_lane(self, remote: Remote) -> _Found:
        """Let the lane move the base: nobody else does. What it says is told."""
        ahead = self._parts.ahead
        if ahead.is_due:
            self._parts.wakes.integrate.set()
            return _WELL
        return _Found(messages.upstream_waits(remote.title, ahead.reason))

    async def _merge(self, remote: Remote, tip: str, seen: str) -> _Found:
        """Make one task that merges both histories, unless there is one."""
        parts = self._parts
        pulled = await last_pulled(parts)
        if pulled is not None:
            task = await parts.store.get(pulled.task_id)
            stuck = task.state is State.NEEDS_HUMAN
            if stuck or (task.state in ENDED and pulled.tip == tip):
                return _Found(messages.upstream_unmerged(remote.title, task.id, task.state))
            if task.state not in ENDED:
                return _WELL
        done = await parts.git.run(
            "merge-base", seen, tip, git_dir=parts.integration.path, accept=frozenset({0, 1})
        )
        if done.code:
            return _Found(messages.upstream_unrelated(remote.title, remote.branch))
        await self._make_task(remote, tip, first_line(done))
        return _WELL

    async def _make_task(self, remote: Remote, tip: str, base: str) -> None:
        parts = self._parts
        task_id = new_task_id(remote.title)
        text = messages.upstream_input(remote.title, remote.branch, tip)
        seal = await make_task_folder(parts.workspace, parts.store, task_id, "upstream.md", text)
        await parts.integration.keep(task_id, tip)
        async with parts.store.transaction("upstream_task_made") as tx:
            await tx.run(
                "create_upstream",
                id=task_id,
                name=remote.title,
                repository=parts.repository,
                base_commit=base,
                head_commit=tip,
                summary=messages.upstream_summary(remote.title),
                input_seal=seal,
            )
            await tx.run("set_meta", key=pulled_key(parts.repository), value=f"{task_id} {tip}")
            await tx.run("end_claim", task_id=task_id)
        log.info("upstream_diverged", task_id=task_id, remote=remote.title, tip=tip[:10])
        parts.wakes.integrate.set()


def pause_after(failures: int) -> float:
    """Return how long to wait after so many failures in a row; it doubles each time."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 64), _LONGEST_PAUSE_SECONDS)


async def _agree(remote: Remote, commit: str) -> None:
    if await remote.agreed() != commit:
        await remote.agree(commit)
