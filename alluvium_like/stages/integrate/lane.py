"""The lane: merges, tests and lands what is ready, one candidate after the other.

Candidates are real commits, each on top of the one before, so the very commit that was tested is
the one that lands. A landing that has to wait (the owner's edits are in the way) stays behind as
`integrating`; the queue goes on above it on our own base. A base that others moved voids what has
not landed: it is merged and tested again, and no agent is called.
"""

from dataclasses import replace

from alluvium_like.config import TestCommand
from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.merges import Conflict
from alluvium_like.lifecycle import Condition, State
from alluvium_like.log import get_logger
from alluvium_like.stages.integrate import verdicts
from alluvium_like.stages.integrate.base import Base, Train
from alluvium_like.stages.integrate.candidate import build_commit
from alluvium_like.stages.integrate.trial import Trial, try_commit
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts, tell_condition
from alluvium_like.task import Task

log = get_logger(__name__)

_BLOCKED_LOOK_SECONDS = 5.0


class Lane:
    """The only one that moves the base branch of one repository."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._base = Base(parts)
        self._known_green: tuple[str, tuple[TestCommand, ...]] | None = None
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
        await self._base.take_up()
        await self._base.try_pending()
        if parts.settings.current.integration.enabled:
            while await self._run_train():
                log.info("train_made_up_again")
        await parts.store.clear_condition(Condition.LANE, parts.repository)
        return await parts.store.open_landing(parts.repository) is not None

    async def _run_train(self) -> bool:
        """Take what is ready through; true when it is to be made up again: it was overtaken."""
        parts = self._parts
        train = Train(parts.integration.seen, parts.integration.base)
        for task in await parts.store.ready_for_integration(parts.repository):
            if parts.runs.stopping or await parts.store.conditions(Condition.BASE_RED):
                break
            if not await self._couple_or_ask(task, train):
                return not parts.runs.stopping and not await parts.store.conditions(
                    Condition.BASE_RED
                )
        return not await self._base.publish(train)

    async def _couple_or_ask(self, task: Task, train: Train) -> bool:
        """Couple one task; what goes wrong with it is put to a person and stops nobody else."""
        try:
            return await self._couple(task, train)
        except (GitFailed, OSError, ValueError) as error:
            log.exception("task_not_coupled", task_id=task.id)
            await verdicts.ask_about_merge(self._parts, task, str(error))
            return True

    async def _couple(self, task: Task, train: Train) -> bool:
        """Put one task on the train, or decide about it; false when the train cannot go on."""
        parts, integration = self._parts, self._parts.integration
        merged = await integration.merge_work(train.top, task.head_commit, task.base_commit)
        if isinstance(merged, Conflict) or merged.tree == await integration.tree_of(train.top):
            if not await self._base.publish(train):
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
        if not await verdicts.move(parts, task, State.INTEGRATING, ""):
            return True
        held = replace(task, state=State.INTEGRATING)
        commit = await build_commit(parts, held, train.top, merged.tree)
        if parts.settings.current.tests:
            return await self._prove(held, train, commit)
        train.top = train.proven[task.id] = commit
        return True

    async def _prove(self, task: Task, train: Train, commit: str) -> bool:
        """Test one candidate and land it when it is green; false when the train cannot go on."""
        parts = self._parts
        trial = await try_commit(parts, commit, verdicts.tests_log(parts, task.id))
        if trial.green:
            self._known_green = (commit, parts.settings.current.tests)
            train.top = train.proven[task.id] = commit
            return await self._base.publish(train)
        if trial.interrupted:
            await verdicts.move(
                parts, task, State.WORKER_DONE, "the daemon stopped during its tests"
            )
            return False
        base = await self._base_trial(train.top)
        if base.green:
            await verdicts.send_back_tests(parts, task, trial)
            return True
        await verdicts.move(parts, task, State.WORKER_DONE, "waits: the base is red by itself")
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
