"""The base branch as the lane moves it: what others did to it, and our landings, journaled.

Nothing here decides about a task's work: a landing brings what was proven, or has to wait, or was
overtaken. What has not landed when the base moves goes back to be merged and tested again.
"""

from dataclasses import dataclass, field

import anyio

from alluvium_like.errors import StaleTransition
from alluvium_like.gitrepo.landing import Landed, land
from alluvium_like.lifecycle import Condition, Outcome, State
from alluvium_like.log import get_logger
from alluvium_like.stages.integrate import verdicts
from alluvium_like.stages.parts import Parts
from alluvium_like.store.writer import Transaction
from alluvium_like.task import Landing

log = get_logger(__name__)


@dataclass(slots=True)
class Train:
    """Proven candidates (task id to commit) that are not journaled yet; `top` is the last.

    `seen` is the owner's base when the train was made up; once that moves, the train is void.
    """

    seen: str
    top: str
    proven: dict[str, str] = field(default_factory=dict)


class Base:
    """The base branch of one repository."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def take_up(self) -> None:
        """Find what landed (also before a crash) and void what others' moves overtook."""
        parts, integration = self._parts, self._parts.integration
        await integration.refresh()
        key = f"settled:{parts.repository}"
        settled = await parts.store.get_meta(key)
        if settled == integration.seen:
            return
        if settled:
            landed = await integration.history.landed_tasks(settled, integration.seen)
            for task_id, commit in landed.items():
                await self._note_landed(task_id, commit)
            pending = await parts.store.open_landing(parts.repository)
            if pending is not None:
                await parts.store.write(
                    "set_landing_state", id=pending.id, state="void", reason="the base moved"
                )
            await self._return_to_queue("the base moved: merged and tested again")
            await parts.store.clear_condition(Condition.BASE_RED, parts.repository)
            log.info("base_moved", old=settled[:10], new=integration.seen[:10])
        await parts.store.set_meta(key, integration.seen)

    async def _note_landed(self, task_id: str, commit: str) -> None:
        try:
            async with self._parts.store.transaction() as tx:
                await tx.finish(task_id, Outcome.MERGED, expect=State.INTEGRATING, commit=commit)
        except StaleTransition:
            return
        await verdicts.tell_merged(self._parts, task_id, commit)

    async def _return_to_queue(self, reason: str) -> None:
        """Give up every candidate that has not landed; their work is merged again."""
        parts = self._parts
        for task in await parts.store.integrating(parts.repository):
            await verdicts.move(parts, task, State.WORKER_DONE, reason)
        await parts.integration.set_base(parts.integration.seen)

    async def try_pending(self) -> None:
        """Land what had to wait, or what a crash cut off; void it when a task was withdrawn."""
        parts = self._parts
        pending = await parts.store.open_landing(parts.repository)
        if pending is None:
            if await parts.store.integrating(parts.repository):
                await self._return_to_queue("integration was interrupted")
            return
        async with parts.store.transaction() as tx:
            await tx.run("set_landing_state", id=pending.id, state="prepared", reason="")
            whole = await _all_integrating(tx, pending.id)
            if not whole:
                withdrawn = "a task was withdrawn"
                await tx.run("set_landing_state", id=pending.id, state="void", reason=withdrawn)
        if whole:
            tasks = await parts.store.tasks_of_landing(pending.id)
            resumed = pending.state == "prepared"
            await self._land(pending, {task: commit for task, commit, _ in tasks}, resumed=resumed)
        else:
            await self._return_to_queue("something below it was withdrawn")

    async def publish(self, train: Train) -> bool:
        """Journal and land the proven candidates, with those that wait below them.

        Returns whether the train still stands on our base; it does when the landing has to wait.
        """
        parts = self._parts
        if parts.integration.seen != train.seen:
            train.proven = {}
            await self.take_up()
            return False
        if not train.proven:
            return parts.integration.base == train.top
        together, train.proven = train.proven, {}
        pending = await parts.store.open_landing(parts.repository)
        if pending is not None:
            below = await parts.store.tasks_of_landing(pending.id)
            together = {**{task: commit for task, commit, _ in below}, **together}
        async with parts.store.transaction() as tx:
            if pending is not None:
                await tx.run("set_landing_state", id=pending.id, state="void", reason="extended")
            landing_id = await self._journal(tx, train, together)
            whole = await _all_integrating(tx, landing_id)
            if not whole:
                withdrawn = "a task was withdrawn"
                await tx.run("set_landing_state", id=landing_id, state="void", reason=withdrawn)
        if not whole:
            await self._return_to_queue("something below it was withdrawn")
            return False
        await parts.integration.hold(together, train.top)
        landing = Landing(landing_id, parts.repository, train.seen, train.top, "prepared", "")
        await self._land(landing, together)
        if landed_or_waits := parts.integration.base == train.top:
            train.seen = parts.integration.seen
        return landed_or_waits

    async def _journal(self, tx: Transaction, train: Train, tasks: dict[str, str]) -> int:
        parts = self._parts
        rows = await tx.run(
            "prepare_landing",
            repository=parts.repository,
            old_commit=train.seen,
            new_commit=train.top,
        )
        landing_id: int = rows[0]["id"]
        for task_id, commit in tasks.items():
            await tx.run(
                "add_landing_task", landing_id=landing_id, task_id=task_id, commit_id=commit
            )
        return landing_id

    async def _land(
        self, landing: Landing, tasks: dict[str, str], *, resumed: bool = False
    ) -> None:
        """Advance the owner's base; not to be interrupted between the ref and the row.

        `resumed`: the journal says that a crash cut this landing off.
        """
        parts, old, new = self._parts, landing.old_commit, landing.new_commit
        with anyio.CancelScope(shield=True):
            end = await land(
                parts.git, parts.owner, parts.integration.path, old, new, resumed=resumed
            )
            if end.result is Landed.LANDED:
                await self._record_landing(landing.id, new, tasks)
                return
        if end.result is Landed.MOVED:
            await self.take_up()
            return
        if landing.reason != end.reason:
            log.info("landing_waits", reason=end.reason)
        reason = f"proven; the landing waits: {end.reason}"
        async with parts.store.transaction() as tx:
            await tx.run("set_landing_state", id=landing.id, state="blocked", reason=end.reason)
            for task_id in tasks:
                await tx.run("explain_task", id=task_id, state=State.INTEGRATING, reason=reason)

    async def _record_landing(self, landing_id: int, new: str, tasks: dict[str, str]) -> None:
        parts = self._parts
        async with parts.store.transaction() as tx:
            await tx.run("set_landing_state", id=landing_id, state="landed", reason="")
            await tx.run("set_meta", key=f"settled:{parts.repository}", value=new)
            for task_id, commit in tasks.items():
                await tx.finish(task_id, Outcome.MERGED, expect=State.INTEGRATING, commit=commit)
        await parts.integration.landed(new, list(tasks))
        for task_id, commit in tasks.items():
            await verdicts.tell_merged(parts, task_id, commit)
        log.info("landed", commit=new[:10], tasks=len(tasks))


async def _all_integrating(tx: Transaction, landing_id: int) -> bool:
    rows = await tx.run("tasks_of_landing", landing_id=landing_id)
    return all(row["state"] == State.INTEGRATING for row in rows)
