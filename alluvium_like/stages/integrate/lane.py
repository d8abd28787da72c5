"""The lane: merges, tests and lands what is ready, one candidate after the other.

Candidates are real commits, each on top of the one before, so the very commit that was tested is
the one that lands. A landing that has to wait (the owner's edits are in the way) stays behind as
`integrating`; the queue goes on above it on our own base. A base that others moved voids what has
not landed: it is merged and tested again, and no agent is called.
"""

from dataclasses import dataclass, field, replace

import anyio

from alluvium_like.errors import GitFailed, StaleTransition
from alluvium_like.gitrepo.landing import Landed, land
from alluvium_like.gitrepo.outcome import Conflict
from alluvium_like.lifecycle import Condition, Outcome, State
from alluvium_like.log import get_logger
from alluvium_like.stages.integrate import verdicts
from alluvium_like.stages.integrate.candidate import build_commit
from alluvium_like.stages.integrate.trial import Trial, try_commit
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts, tell_condition
from alluvium_like.store.writer import Transaction
from alluvium_like.task import Landing, Task

log = get_logger(__name__)

_BLOCKED_LOOK_SECONDS = 5.0


@dataclass(slots=True)
class _Train:
    """Proven candidates (task id to commit) that are not journaled yet; `top` is the last.

    `seen` is the owner's base when the train was made up; once that moves, the train is void.
    """

    seen: str
    top: str
    proven: dict[str, str] = field(default_factory=dict)


class Lane:
    """The only one that moves the base branch of one repository."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known_green: object = None
        self.idle = True

    async def run(self) -> None:
        """Integrate until the daemon stops."""
        parts = self._parts
        while not parts.runs.stopping:
            self.idle = False
            blocked = await self._drain_or_log()
            self.idle = True
            parts.wakes.idle.set()
            await parts.wakes.integrate.wait(
                _BLOCKED_LOOK_SECONDS if blocked else SLOW_LOOK_SECONDS
            )

    async def _drain_or_log(self) -> bool:
        try:
            return await self.drain()
        except Exception as error:
            log.exception("lane_failed")
            await tell_condition(self._parts, Condition.LANE, repr(error), self._parts.repository)
            return True

    async def drain(self) -> bool:
        """Integrate all that is ready; returns true when a landing has to wait."""
        parts = self._parts
        await self._take_up_base()
        await self._try_pending_landing()
        if parts.settings.current.integration.enabled:
            while await self._run_train():
                log.info("train_made_up_again")
        await parts.store.clear_condition(Condition.LANE, parts.repository)
        return await parts.store.open_landing(parts.repository) is not None

    async def _run_train(self) -> bool:
        """Take what is ready through; true when it is to be made up again: it was overtaken."""
        parts = self._parts
        train = _Train(parts.integration.seen, parts.integration.base)
        for task in await parts.store.ready_for_integration(parts.repository):
            if parts.runs.stopping or await parts.store.conditions(Condition.BASE_RED):
                break
            if not await self._couple_or_ask(task, train):
                return not parts.runs.stopping and not await parts.store.conditions(
                    Condition.BASE_RED
                )
        return not await self._flush(train)

    async def _couple_or_ask(self, task: Task, train: _Train) -> bool:
        """Couple one task; what goes wrong with it is put to a person and stops nobody else."""
        try:
            return await self._couple(task, train)
        except (GitFailed, OSError, ValueError) as error:
            log.exception("task_not_coupled", task_id=task.id)
            await verdicts.ask_about_merge(self._parts, task, str(error))
            return True

    async def _couple(self, task: Task, train: _Train) -> bool:
        """Put one task on the train, or decide about it; false when the train cannot go on."""
        parts, integration = self._parts, self._parts.integration
        merged = await integration.merge_work(train.top, task.head_commit, task.base_commit)
        if isinstance(merged, Conflict) or merged.tree == await integration.tree_of(train.top):
            if not await self._flush(train):
                return False
            if train.top != integration.seen:
                reason = "waits for what is ahead of it to land"
                await parts.store.write(
                    "explain_task", id=task.id, state=State.WORKER_DONE, reason=reason
                )
            elif isinstance(merged, Conflict):
                await verdicts.send_back_conflict(parts, task, train.top, merged)
            else:
                await verdicts.mark_noop(parts, task)
            return True
        if not await self._try_move(task, State.INTEGRATING, ""):
            return True
        held = replace(task, state=State.INTEGRATING)
        commit = await build_commit(parts, held, train.top, merged.tree)
        if parts.settings.current.tests:
            return await self._prove(held, train, commit)
        train.top = train.proven[task.id] = commit
        return True

    async def _prove(self, task: Task, train: _Train, commit: str) -> bool:
        """Test one candidate and land it when it is green; false when the train cannot go on."""
        parts = self._parts
        trial = await try_commit(parts, commit, verdicts.tests_log(parts, task.id))
        if trial.green:
            self._known_green = (commit, parts.settings.current.tests)
            train.top = train.proven[task.id] = commit
            return await self._flush(train)
        if trial.interrupted:
            await self._try_move(task, State.WORKER_DONE, "the daemon stopped during its tests")
            return False
        base = await self._base_trial(train.top)
        if base.green:
            await verdicts.send_back_tests(parts, task, trial)
            return True
        await self._try_move(task, State.WORKER_DONE, "waits: the base is red by itself")
        if not base.interrupted:
            await self._pause_for_red_base(base)
        return False

    async def _base_trial(self, commit: str) -> Trial:
        """Test what the candidate stands on, so that nobody is blamed for a base that is red."""
        parts = self._parts
        known = (commit, parts.settings.current.tests)
        if self._known_green == known:
            return Trial(green=True)
        trial = await try_commit(parts, commit, verdicts.base_tests_log(parts))
        if trial.green:
            self._known_green = known
        return trial

    async def _pause_for_red_base(self, trial: Trial) -> None:
        parts = self._parts
        base = parts.integration.base_branch
        reason = (
            f"base red: {base} itself fails its tests ({trial.command} {trial.exit_text}); mend "
            f"{base}, or run 'alluvium-like resume'; output in logs/base-tests.log"
        )
        await parts.store.set_condition(Condition.BASE_RED, reason, parts.repository)
        log.warning("base_red", reason=reason)

    # -- the base ------------------------------------------------------------------------------

    async def _take_up_base(self) -> None:
        """Find what landed (also before a crash) and void what others' moves overtook."""
        parts, integration = self._parts, self._parts.integration
        await integration.refresh()
        key = f"settled:{parts.repository}"
        settled = await parts.store.get_meta(key)
        if settled == integration.seen:
            return
        if settled:
            landed = await integration.landed_tasks(settled, integration.seen)
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
            await self._try_move(task, State.WORKER_DONE, reason)
        await parts.integration.set_base(parts.integration.seen)

    async def _try_move(self, task: Task, to: State, reason: str) -> bool:
        try:
            await self._parts.store.transition(
                task.id, expect=task.state, to=to, reason=reason, in_attempt=task.attempt
            )
        except StaleTransition:  # withdrawn meanwhile
            return False
        return True

    # -- landing -------------------------------------------------------------------------------

    async def _try_pending_landing(self) -> None:
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

    async def _flush(self, train: _Train) -> bool:
        """Journal and land the proven candidates, with those that wait below them.

        Returns whether the train still stands on our base; it does when the landing has to wait.
        """
        parts = self._parts
        if parts.integration.seen != train.seen:
            train.proven = {}
            await self._take_up_base()
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

    async def _journal(self, tx: Transaction, train: _Train, tasks: dict[str, str]) -> int:
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
            await self._take_up_base()
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
