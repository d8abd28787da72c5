"""The tests under way: started, given up, and written down when they end.

Each has a cancel scope of its own; giving one up ends its processes before its slot is free. What
ends is told to the lane by `ended` and its wake.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import anyio.abc

from alluvium_like.errors import AlluviumError
from alluvium_like.log import get_logger
from alluvium_like.stages.integrate.ledger import Gate, Ledger
from alluvium_like.stages.integrate.trial import Trial, try_commit
from alluvium_like.stages.parts import Parts

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """One run that says something about its commit; it is in the ledger already."""

    commit: str
    tree: str
    digest: str
    green: bool


class Testing:
    """The runs of the tests of one lane; `group` holds them while the lane drains."""

    __test__ = False  # pytest would collect it for its name

    def __init__(self, parts: Parts, ledger: Ledger) -> None:
        self._parts = parts
        self._ledger = ledger
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._ended: list[Ended] = []
        self._broken: list[Exception] = []

    @property
    def under_way(self) -> frozenset[str]:
        """The commits whose tests run now."""
        return frozenset(self._scopes)

    def take_ended(self) -> list[Ended]:
        """Return what ended since the last call. Raises what kept tests from being run."""
        if self._broken:
            error = self._broken[0]
            self._broken.clear()  # one trouble stops the lane once
            raise error
        ended, self._ended = self._ended, []
        return ended

    async def start(
        self,
        group: anyio.abc.TaskGroup,
        commit: str,
        tree: str,
        gate: Gate,
        tasks: Sequence[str],
    ) -> None:
        """Begin to test a commit for the sake of these tasks."""
        number = await self._ledger.begin(commit, tree, gate, tasks)
        self._scopes[commit] = anyio.CancelScope()
        group.start_soon(self._run, commit, tree, gate, number)
        log.info("trial_started", trial=number, commit=commit[:10], tasks=len(tasks))

    def give_up(self, commit: str) -> None:
        """End the tests of a commit; its result is not needed any more."""
        self._scopes[commit].cancel()

    async def _run(self, commit: str, tree: str, gate: Gate, number: int) -> None:
        trial = Trial(green=False, interrupted=True)
        try:
            with self._scopes[commit]:
                trial = await try_commit(self._parts, commit, gate, number)
        except (AlluviumError, OSError) as error:
            self._broken.append(error)
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await self._write_down(trial, commit, tree, gate, number)
            finally:
                del self._scopes[commit]
                self._parts.wakes.integrate.set()

    async def _write_down(
        self, trial: Trial, commit: str, tree: str, gate: Gate, number: int
    ) -> None:
        if trial.interrupted:
            await self._ledger.interrupted(number)
            return
        before = await self._ledger.runs(tree, gate)
        await self._ledger.ended(
            number,
            green=trial.green,
            command=trial.command,
            exit_text=trial.exit_text,
            flake=trial.green and before.fails,
        )
        self._ended.append(Ended(commit, tree, gate.digest, trial.green))
        log.info(
            "trial_ended",
            trial=number,
            commit=commit[:10],
            green=trial.green,
            command=trial.command,
            exit=trial.exit_text,
        )
