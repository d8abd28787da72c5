"""The base branch as the lane moves it: what others did to it, and our landings, journaled.

Nothing here decides about a task's work: a landing brings what was proven, or has to wait, or was
overtaken. What has not landed when the base moves goes back to be merged and tested again.
"""

from collections.abc import Sequence

import anyio

from alluvium_like import messages
from alluvium_like.errors import StaleTransition
from alluvium_like.gitrepo.landing import Landed, land, release_landed
from alluvium_like.lifecycle import Condition, LandingState, Outcome, State
from alluvium_like.log import get_logger
from alluvium_like.stages.escapes import is_frozen
from alluvium_like.stages.integrate import verdicts
from alluvium_like.stages.integrate.train import Car
from alluvium_like.stages.parts import Parts
from alluvium_like.store.transaction import Transaction
from alluvium_like.task import Landing

log = get_logger(__name__)


class Base:
    """The base branch of one repository; `generation` changes when a train on it became void."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.generation = 0
        self._settled = ""

    async def take_up(self) -> None:
        """Find what landed (also before a crash) and void what others' moves overtook."""
        parts, integration = self._parts, self._parts.integration
        await integration.refresh()
        seen = integration.seen  # an attempt that starts may see a newer one meanwhile
        settled = self._settled or await parts.store.get_meta(self._key)
        if settled == seen:
            self._settled = settled
            return
        if settled:
            await self._note_moved(settled, seen)
        else:
            await parts.store.set_meta(self._key, seen)
        self._settled = seen
        parts.wakes.upstream.set()

    async def _note_moved(self, old: str, new: str) -> None:
        """Note in one transaction what landed, that nothing else did, and how far was looked."""
        parts = self._parts
        found = await parts.integration.history.landed_tasks(old, new)
        pending = await parts.store.open_landing(parts.repository)
        if pending is not None and pending.cut_off is not None:
            await release_landed(parts.git, parts.owner, pending.cut_off)
        landed: dict[str, str] = {}
        async with parts.store.transaction("base_moved") as tx:
            for task_id, commit in found.items():
                try:
                    await tx.finish(
                        task_id, Outcome.MERGED, expect=State.INTEGRATING, commit=commit
                    )
                except StaleTransition:  # by hand, or by the daemon of a backup: coupling asks
                    await tx.run("note_landed", id=task_id, merge_commit=commit)
                else:
                    landed[task_id] = commit
            if pending is not None:
                void = "the base moved"
                await _set_state(tx, pending.id, LandingState.VOID, void)
            await self._return_all(tx, "the base moved: merged and tested again")
            await tx.run("clear_condition", name=Condition.BASE_RED, repository=parts.repository)
            await tx.run("set_meta", key=self._key, value=new)
        self.generation += 1
        await parts.integration.set_base(new)
        for task_id, commit in landed.items():
            await verdicts.tell_merged(parts, task_id, commit)
        log.info("base_moved", old=old[:10], new=new[:10])

    async def follow(self) -> None:
        """Move the base forward to what others pushed, where the upstream stage asks for it.

        Needs no journal: after a crash it is asked for again, and what was half written is found.
        A landing that a crash cut off goes first: it has files in the owner's worktree.
        """
        parts, ahead, seen = self._parts, self._parts.ahead, self._settled
        pending = await parts.store.open_landing(parts.repository)
        cut_off = pending is not None and pending.cut_off is not None
        if not ahead.commit or cut_off or parts.runs.stopping:
            return
        reason = "integration.enabled is false"
        if await is_frozen(parts):
            reason = "an escape has to be looked at first"
        elif parts.settings.current.integration.enabled:
            if not await parts.integration.history.contains(seen, ahead.commit):
                ahead.ask("")
                parts.wakes.upstream.set()
                return
            with anyio.CancelScope(shield=True):
                end = await land(parts.git, parts.owner, parts.integration.path, seen, ahead.commit)
            if end.result is not Landed.BLOCKED:
                ahead.ask("")
                await self.take_up()
                return
            reason = end.reason
        if ahead.reason != reason:
            ahead.reason = reason
            parts.wakes.upstream.set()

    @property
    def _key(self) -> str:
        return f"settled:{self._parts.repository}"

    async def return_to_queue(self, reason: str) -> None:
        """Give up every candidate that has not landed; their work is merged again."""
        parts = self._parts
        self.generation += 1
        async with parts.store.transaction("returned_to_queue") as tx:
            await self._return_all(tx, reason)
        await parts.integration.set_base(parts.integration.seen)

    async def _return_all(self, tx: Transaction, reason: str) -> None:
        for row in await tx.run("integrating", repository=self._parts.repository):
            await tx.transition(
                row["id"], expect=State.INTEGRATING, to=State.WORKER_DONE, reason=reason
            )

    async def try_pending(self) -> bool:
        """Land what had to wait, or what a crash cut off; void it when a task was withdrawn.

        Returns whether it landed.
        """
        parts = self._parts
        pending = await parts.store.open_landing(parts.repository)
        if pending is None:
            return False
        async with parts.store.transaction("landing_resumed") as tx:
            # One that is prepared keeps the time at which it was cut off.
            if pending.state is not LandingState.PREPARED:
                await _set_state(tx, pending.id, LandingState.PREPARED)
            whole = await _is_whole(tx, pending.id)
        if whole:
            rows = await parts.store.tasks_of_landing(pending.id)
            tasks = {task: commit for task, commit, _ in rows}
            if pending.cut_off is not None:  # maybe before its candidates were held
                await parts.integration.hold(tasks, pending.new_commit)
            return await self._land(pending, tasks)
        await self.return_to_queue("something below it was withdrawn")
        return False

    async def publish(self, cars: Sequence[Car]) -> None:
        """Journal and land proven cars, with those that wait to land below them."""
        parts = self._parts
        before = self.generation
        await self.take_up()
        if self.generation != before:
            return
        top = cars[-1].commit
        together = {car.task_id: car.commit for car in cars}
        pending = await parts.store.open_landing(parts.repository)
        if pending is not None:
            below = await parts.store.tasks_of_landing(pending.id)
            together = {**{task: commit for task, commit, _ in below}, **together}
        seen = self._settled  # an attempt that starts may have seen a newer one by now
        async with parts.store.transaction("landing_prepared") as tx:
            if pending is not None:
                await _set_state(tx, pending.id, LandingState.VOID, "extended")
            landing_id = await self._journal(tx, seen, top, together)
            whole = await _is_whole(tx, landing_id)
        if not whole:
            await self.return_to_queue("something below it was withdrawn")
            return
        await parts.integration.hold(together, top)
        await self._land(
            Landing(landing_id, parts.repository, seen, top, LandingState.PREPARED), together
        )

    async def _journal(self, tx: Transaction, old: str, new: str, tasks: dict[str, str]) -> int:
        repository = self._parts.repository
        rows = await tx.run(
            "prepare_landing", repository=repository, old_commit=old, new_commit=new
        )
        landing_id: int = rows[0]["id"]
        for task_id, commit in tasks.items():
            await tx.run(
                "add_landing_task", landing_id=landing_id, task_id=task_id, commit_id=commit
            )
        return landing_id

    async def _land(self, landing: Landing, tasks: dict[str, str]) -> bool:
        """Advance the owner's base; not to be interrupted between the ref and the row.

        Returns whether it landed.
        """
        parts, old, new = self._parts, landing.old_commit, landing.new_commit
        path, cut_off = parts.integration.path, landing.cut_off
        with anyio.CancelScope(shield=True):
            end = await land(parts.git, parts.owner, path, old, new, cut_off=cut_off)
            if end.result is Landed.LANDED:
                await self._record_landing(landing.id, new, tasks)
                return True
        if end.result is Landed.MOVED:
            await self.take_up()
            return False
        if landing.reason != end.reason:
            log.info("landing_waits", reason=end.reason)
        reason = f"proven; the landing waits: {end.reason}"
        async with parts.store.transaction("landing_blocked") as tx:
            await _set_state(tx, landing.id, LandingState.BLOCKED, end.reason)
            for task_id in tasks:
                await tx.run("explain_task", id=task_id, state=State.INTEGRATING, reason=reason)
        return False

    async def _record_landing(self, landing_id: int, new: str, tasks: dict[str, str]) -> None:
        parts = self._parts
        async with parts.store.transaction("landed") as tx:
            await _set_state(tx, landing_id, LandingState.LANDED)
            await tx.run("set_meta", key=self._key, value=new)
            flaky = {row["task_id"] for row in await tx.run("flaky_in_landing", id=landing_id)}
            for task_id, commit in tasks.items():
                await tx.finish(
                    task_id,
                    Outcome.MERGED,
                    expect=State.INTEGRATING,
                    reason=messages.FLAKE_REASON if task_id in flaky else "",
                    commit=commit,
                )
        self._settled = new
        await parts.integration.landed(new, list(tasks))
        parts.wakes.warmer.set()
        for task_id, commit in tasks.items():
            await verdicts.tell_merged(parts, task_id, commit)
        log.info("landed", commit=new[:10], tasks=len(tasks))
        parts.wakes.upstream.set()


async def _set_state(
    tx: Transaction, landing_id: int, state: LandingState, reason: str = ""
) -> None:
    await tx.run("set_landing_state", id=landing_id, state=state, reason=reason)


async def _is_whole(tx: Transaction, landing_id: int) -> bool:
    """Tell whether all tasks of a landing are still in it; it is void where one was withdrawn."""
    rows = await tx.run("tasks_of_landing", landing_id=landing_id)
    if all(row["state"] == State.INTEGRATING for row in rows):
        return True
    reason = "a task was withdrawn"
    await _set_state(tx, landing_id, LandingState.VOID, reason)
    return False
