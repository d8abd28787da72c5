"""The lane: couples, tests and lands what is ready, and alone moves the base branch.

Candidates are real commits, each on top of the one before, and the very commit that was tested is
the one that lands. `train` decides what to test, land and blame; here is what that does to Git, the
store and people. A landing that has to wait stays behind as `integrating`, the queue goes on above
it. A base that others moved voids the train: it is merged and tested again, no agent is called.
"""

from dataclasses import replace

import anyio
import anyio.abc

from alluvium_like.errors import StaleTransition, reason_of
from alluvium_like.lifecycle import Condition, State
from alluvium_like.log import get_logger
from alluvium_like.stages.escapes import is_frozen, take_up_resume
from alluvium_like.stages.integrate import verdicts
from alluvium_like.stages.integrate.base import Base
from alluvium_like.stages.integrate.couple import couple_or_ask
from alluvium_like.stages.integrate.ledger import Gate, Gates, Ledger
from alluvium_like.stages.integrate.testing import Testing
from alluvium_like.stages.integrate.train import BASE, Car, Train, next_steps, room
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts, tell_condition
from alluvium_like.task import Task

log = get_logger(__name__)

_BLOCKED_LOOK_SECONDS = 5.0
_MOST_AT_ONCE = 256


class Lane:
    """The only one that moves the base branch of one repository."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._base = Base(parts)
        self._ledger = Ledger(parts)
        self._testing = Testing(parts, self._ledger)
        self._gates = Gates(Gate.of(()))
        self._train = Train("")
        self._generation: int | None = None  # the base's that the train was begun on
        self._deferred: set[tuple[str, int, str]] = set()
        self._unmended: set[tuple[str, int, str]] = set()
        """What waits until the base passes a test that it names itself."""
        self._doubted = ""
        """The base, while it is tested for what one car alone has to pass."""
        self._opened = False
        self.idle = True

    async def run(self) -> None:
        """Integrate until the daemon stops."""
        parts = self._parts
        while not parts.runs.stopping:
            self.idle = False
            blocked = await self._drain_or_log()
            self.idle = True
            parts.wakes.idle.set()
            if not parts.runs.stopping:
                await parts.wakes.integrate.wait(
                    _BLOCKED_LOOK_SECONDS if blocked else SLOW_LOOK_SECONDS
                )

    async def _drain_or_log(self) -> bool:
        try:
            return await self.drain()
        except Exception as error:
            self._opened, self._generation = False, None
            if await self._parts.tell(error):
                return True
            log.exception("lane_failed")
            reason = reason_of(error)
            await tell_condition(self._parts, Condition.LANE, reason, self._parts.repository)
            return True

    async def drain(self) -> bool:
        """Integrate all that is ready, tests included; returns true when a landing has to wait."""
        parts = self._parts
        async with anyio.create_task_group() as tests:
            try:
                while await self._look(tests):
                    waits = await self._has_to_wait()
                    await parts.wakes.integrate.wait(
                        _BLOCKED_LOOK_SECONDS if waits else SLOW_LOOK_SECONDS
                    )
            except BaseException:
                tests.cancel_scope.cancel()
                raise
        await parts.store.clear_condition(Condition.LANE, parts.repository)
        return await self._has_to_wait()

    async def _look(self, tests: anyio.abc.TaskGroup) -> bool:
        """Do all that can be done now; returns whether there is a test to wait for."""
        await take_up_resume(self._parts)
        await self._base.take_up()
        await self._base.follow()
        may_land = self._parts.settings.current.integration.enabled
        may_land = may_land and not await is_frozen(self._parts)
        if may_land and await self._base.try_pending():
            self._deferred.clear()  # among them what the landing held already
        while not self._parts.runs.stopping and await self._step(tests):
            pass
        return bool(self._testing.under_way)

    async def _step(self, tests: anyio.abc.TaskGroup) -> bool:
        """Take one decision and carry it out; returns whether another may follow at once."""
        current = self._parts.settings.current
        config = current.integration
        await self._keep_up(Gates.of(config, current.setup), strict=config.strict)
        if not config.enabled or await self._is_base_red() or await is_frozen(self._parts):
            await self._uncouple("waits: nothing is integrated now")
            return False
        await self._drop_withdrawn()
        await self._extend(config.test_slots)
        proven = self._train.proven if self._is_tested else len(self._train.cars)
        if proven:
            if not await is_frozen(self._parts):  # to couple takes its time
                await self._land(proven)
            return True
        if not self._train.cars:
            self._give_up_all()
            return False
        return await self._search(tests, config.test_slots)

    async def _keep_up(self, gates: Gates, *, strict: bool) -> None:
        """Take up what has ended, and begin a new train where the old one is void."""
        for ended in self._testing.take_ended():
            if ended.digest != self._gate_of(ended.commit).digest:
                continue
            if ended.commit == self._train.base:  # what was known before may not count any more
                self._train = self._train.recorded(ended.commit, passed=ended.green)
            else:
                await self._learn(ended.commit, ended.tree)
        if not self._opened:
            await self._ledger.open()
            self._opened = True
        if self._generation != self._base.generation or gates != self._gates:
            await self._begin_train(gates)
        self._train = replace(self._train, strict=strict)

    async def _begin_train(self, gates: Gates) -> None:
        integration = self._parts.integration
        waits = await self._parts.store.open_landing(self._parts.repository)
        base = waits.new_commit if waits else integration.seen
        if integration.base != base:  # by a crash, or by an agent before it
            await integration.set_base(base)
        if gates != self._gates:
            self._give_up_all()  # the same commit may be in the new train, under other tests
        self._gates = gates
        self._generation = self._base.generation
        self._train = Train(integration.base)
        self._deferred.clear()
        self._unmended.clear()
        await self._learn(self._train.base, await integration.tree_of(self._train.base))
        await self._ledger.show(())

    async def _learn(self, commit: str, tree: str) -> None:
        """Recall what earlier runs said about the tree of a commit."""
        if self._is_tested:
            runs = await self._ledger.runs(tree, self._gate_of(commit))
            self._train = self._train.learned(commit, runs)

    @property
    def _is_tested(self) -> bool:
        """Whether anything in the train has to pass a test."""
        return bool(self._gates.plain.tests) or any(car.tests for car in self._train.cars)

    def _gate_of(self, commit: str) -> Gate:
        """Return what a commit has to pass; one that is no car's, what all have to."""
        cars = (car for car in self._train.cars if car.commit == commit)
        return self._gates.passing(next((car.tests for car in cars), ()))

    async def _drop_withdrawn(self) -> None:
        """Take a car off whose task was cancelled, and with it what stands on top of it."""
        if not self._train.cars:
            return
        integrating = await self._parts.store.integrating(self._parts.repository)
        held = {task.id for task in integrating}
        for position, car in enumerate(self._train.cars):
            if car.task_id not in held:
                await self._shorten(position)
                return

    async def _shorten(self, length: int) -> None:
        self._train = self._train.shortened(length)
        self._deferred.clear()
        await self._ledger.show(self._train.cars)

    async def _extend(self, slots: int) -> None:
        """Couple what is ready, in the order of the queue, while the train may grow."""
        space = _MOST_AT_ONCE
        if self._is_tested:
            space = room(self._train, self._ledger.failure_rate, slots)
        if not space:
            return
        coupled: list[tuple[Task, Car]] = []
        held_back = self._deferred | self._unmended
        for task in await self._ledger.to_couple(space + len(held_back)):
            if len(coupled) == space or self._parts.runs.stopping:
                break
            turn = (task.id, task.attempt, task.approved_commit)
            if turn in held_back:
                continue
            below = coupled[-1][1] if coupled else next(reversed(self._train.cars), None)
            top = below.commit if below else self._train.top
            car = await couple_or_ask(self._parts, task, top)
            if car is None:
                self._deferred.add(turn)
            else:
                tests = {*(below.tests if below else ()), *task.settings.tests}
                coupled.append((task, replace(car, tests=tuple(sorted(tests)))))
        await self._take_on(coupled)

    async def _take_on(self, coupled: list[tuple[Task, Car]]) -> None:
        """Let the cars join the train, up to one whose task was withdrawn meanwhile."""
        if not coupled:
            return
        joined: list[Car] = []
        async with self._parts.store.transaction("train_joined") as tx:
            for task, car in coupled:
                try:
                    if task.state is not State.INTEGRATING:
                        await tx.transition(
                            task.id,
                            expect=task.state,
                            to=State.INTEGRATING,
                            in_attempt=task.attempt,
                        )
                except StaleTransition:
                    break
                joined.append(car)
        self._train = self._train.extended(*joined)
        if self._is_tested:
            for car in joined:
                await self._learn(car.commit, car.tree)
            await self._ledger.show(self._train.cars)

    async def _land(self, proven: int) -> None:
        """Land all up to a position; a landing that has to wait is the base of what follows."""
        cars, tested = self._train.cars[:proven], self._is_tested
        gate = self._gate_of(cars[-1].commit)
        await self._base.publish(cars)
        if self._base.generation != self._generation:
            return
        self._train = self._train.moved_up(proven)
        self._deferred.clear()
        self._unmended.clear()
        if tested:
            await self._ledger.judged(passed=proven)
            await self._ledger.show(self._train.cars)
            passed = await self._ledger.last("green", cars[-1].tree, gate)
            await verdicts.link_log(self._parts, [car.task_id for car in cars], passed)

    async def _search(self, tests: anyio.abc.TaskGroup, slots: int) -> bool:
        """Let the train's search go on; returns whether it found somebody to blame."""
        if self._doubted not in self._testing.under_way:
            self._doubted = ""
        train, under_way = self._train, self._testing.under_way - {self._doubted}
        numbered = {train.commit(n): n for n in range(len(train.cars) + 1)}
        positions = [numbered[commit] for commit in under_way if commit in numbered]
        foreign = [commit for commit in under_way if commit not in numbered]
        steps = next_steps(train, positions, slots - len(foreign))
        for commit in (*foreign, *(train.commit(position) for position in steps.give_up)):
            self._testing.give_up(commit)
        if steps.base_is_red:
            await self._pause_for_red_base()
            return False
        if steps.blamed is not None:
            return await self._blame(tests, steps.blamed)
        free = max(slots - len(under_way), 0)  # what is given up still has processes to end
        for position in steps.start[:free]:
            commit = train.commit(position)
            if commit == self._doubted:
                continue  # one run of a commit at a time; its end wakes us
            tree = await self._parts.integration.tree_of(commit)
            held = [car.task_id for car in train.cars[:position]]
            await self._testing.start(tests, commit, tree, self._gate_of(commit), held)
        return False

    def _give_up_all(self) -> None:
        for commit in self._testing.under_way:
            self._testing.give_up(commit)

    async def _blame(self, tests: anyio.abc.TaskGroup, position: int) -> bool:
        """Send back the task whose car is red while the one before it is green.

        Returns false while it is not known yet whether the base passes what the car has to.
        """
        car = self._train.cars[position - 1]
        gate = self._gate_of(car.commit)
        failed = await self._ledger.last("red", car.tree, gate)
        named = failed["command"] in self._gates.commands_of(car.tests)
        base_passes = await self._base_passes(tests, gate) if named else True
        if base_passes is None:
            return False
        task = await self._parts.store.get(car.task_id)
        await self._shorten(position - 1)
        if base_passes:
            await self._ledger.judged(blamed=1)
            await verdicts.send_back_tests(self._parts, task, failed)
        else:
            self._unmended.add((task.id, task.attempt, task.approved_commit))
            reason = f"waits: the base itself fails {failed['command']}, which the task is to pass"
            await verdicts.wait(self._parts, task, reason)
        return True

    async def _base_passes(self, tests: anyio.abc.TaskGroup, gate: Gate) -> bool | None:
        """Tell whether the base passes a gate of further tests; None while that is found out."""
        base = self._train.base
        tree = await self._parts.integration.tree_of(base)
        runs = await self._ledger.runs(tree, gate)
        if runs.passes or runs.confirmed:
            return runs.passes
        if base not in self._testing.under_way:
            self._doubted = base
            await self._testing.start(tests, base, tree, gate, ())
        return None

    async def _pause_for_red_base(self) -> None:
        parts = self._parts
        tree = await parts.integration.tree_of(self._train.commit(BASE))
        failed = await self._ledger.last("red", tree, self._gates.plain)
        base = parts.integration.base_branch
        log_file = parts.workspace.trial_log(failed["id"]).relative_to(parts.workspace.root)
        reason = (
            f"base red: {base} itself fails its tests ({failed['command']} {failed['exit_text']}); "
            f"mend {base}, or run 'alluvium-like resume'; output in {log_file}"
        )
        await self._uncouple("waits: the base is red by itself")
        await parts.store.set_condition(Condition.BASE_RED, reason, parts.repository)
        log.warning("base_red", reason=reason)

    async def _uncouple(self, reason: str) -> None:
        """Take the whole train apart; its tasks wait to be coupled again.

        What it knew of its commits goes too: by then a person may have had a hand in it.
        """
        self._give_up_all()
        cars = self._train.cars
        self._generation = None
        if cars:
            await self._shorten(0)
            for car in cars:
                await verdicts.wait(self._parts, await self._parts.store.get(car.task_id), reason)

    async def _is_base_red(self) -> bool:
        red = await self._parts.store.conditions(Condition.BASE_RED)
        return self._parts.repository in red

    async def _has_to_wait(self) -> bool:
        return bool(self._parts.ahead.commit) or await self._has_blocked_landing()

    async def _has_blocked_landing(self) -> bool:
        return await self._parts.store.open_landing(self._parts.repository) is not None
