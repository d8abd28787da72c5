"""What the lane writes down: its train, every run of the tests, and what it learned from them.

A result counts for every commit of the same tree, as long as commands and environment are the same.
Rows only: the decisions are `train`'s, and the lane makes its train anew after a crash.
"""

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from alluvium_like.agents.command import base_environment
from alluvium_like.config import TestCommand
from alluvium_like.config.integration import Integration
from alluvium_like.config.setup import Setup
from alluvium_like.stages.integrate.train import (
    FIRST_FAILURE_RATE,
    Car,
    Runs,
    updated_rate,
)
from alluvium_like.stages.parts import Parts
from alluvium_like.store.rows import Row
from alluvium_like.task import Task


@dataclass(frozen=True, slots=True)
class Gate:
    """The tests that a candidate has to pass, and the environment that they run in."""

    tests: tuple[TestCommand, ...]
    environment: dict[str, str]
    digest: str
    """Tells gates apart by what could change a result."""

    setup: Setup = field(default_factory=Setup)
    """What makes the tree ready before them."""

    @classmethod
    def of(cls, tests: tuple[TestCommand, ...], setup: Setup | None = None) -> "Gate":
        """Return the gate that the configuration asks for now."""
        setup = setup or Setup()
        environment = base_environment(os.environ, ())
        commands = [[test.name, test.command, test.timeout_seconds] for test in tests]
        ready = [each.command for each in setup.run], setup.keep, setup.copy_, setup.env
        known = [commands, sorted(environment.items()), *filter(any, [ready])]
        text = json.dumps(known)
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
        return cls(tests, environment, digest, setup)


@dataclass(frozen=True, slots=True)
class Gates:
    """The gate of every candidate, and those of tasks that name further tests."""

    plain: Gate
    optional: tuple[TestCommand, ...] = ()

    @classmethod
    def of(cls, config: Integration, setup: Setup) -> "Gates":
        """Return the gates that the configuration asks for now."""
        return cls(Gate.of(config.run_tests, setup), config.optional_tests)

    def commands_of(self, names: Collection[str]) -> list[str]:
        """Return what these further tests run."""
        return [test.command for test in self.optional if test.name in names]

    def passing(self, names: Collection[str]) -> Gate:
        """Return the gate of a candidate that has to pass these tests too."""
        if not names:
            return self.plain
        more = tuple(test for test in self.optional if test.name in names)
        return Gate.of(self.plain.tests + more, self.plain.setup)


class Ledger:
    """The rows of one repository's lane."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._repository = parts.repository
        self.failure_rate = FIRST_FAILURE_RATE

    async def open(self) -> None:
        """Take up what earlier daemons learned, and close what they left open."""
        store = self._parts.store
        async with store.transaction("queue_opened") as tx:
            await tx.run("interrupt_trials", repository=self._repository)
            await tx.run("clear_cars", repository=self._repository)
            await tx.run("add_queue", repository=self._repository, failure_rate=FIRST_FAILURE_RATE)
        (row,) = await store.rows("queue", repository=self._repository)
        self.failure_rate = row["failure_rate"]

    async def to_couple(self, most: int) -> list[Task]:
        """Return what may become a car, in the order of the queue."""
        return await self._parts.store.to_couple(self._repository, most)

    async def runs(self, tree: str, gate: Gate) -> Runs:
        """Return how often the tests of a tree ended, whichever commit held it."""
        (row,) = await self._parts.store.rows("runs_of_tree", tree=tree, digest=gate.digest)
        return Runs(row["green"], row["red"])

    async def last(self, result: str, tree: str, gate: Gate) -> Row:
        """Return the newest run of a tree that ended `green` or `red`; there must be one."""
        store = self._parts.store
        rows = await store.rows("last_trial", result=result, tree=tree, digest=gate.digest)
        return rows[0]

    async def begin(self, commit: str, tree: str, gate: Gate, tasks: Sequence[str]) -> int:
        """Write down that tests of a commit begin, and whose work they are about."""
        async with self._parts.store.transaction("trial_begun") as tx:
            rows = await tx.run(
                "begin_trial",
                repository=self._repository,
                commit_id=commit,
                tree=tree,
                digest=gate.digest,
            )
            number: int = rows[0]["id"]
            for position, task_id in enumerate(tasks, start=1):
                await tx.run("add_trial_task", trial_id=number, task_id=task_id, position=position)
        return number

    async def ended(
        self, number: int, *, green: bool, command: str, exit_text: str, flake: bool
    ) -> None:
        """Write down how they ended, and with which command where they failed."""
        result = "green" if green else "red"
        async with self._parts.store.transaction("trial_ended") as tx:
            await tx.run(
                "end_trial", id=number, result=result, command=command, exit_text=exit_text
            )
            await tx.run("count_run", repository=self._repository, flakes=int(flake))

    async def interrupted(self, number: int) -> None:
        """Write down that they were cut off, which says nothing."""
        await self._parts.store.write(
            "end_trial", id=number, result="interrupted", command="", exit_text=""
        )

    async def judged(self, *, passed: int = 0, blamed: int = 0) -> None:
        """Learn from tasks that were proven or found at fault by their tests."""
        self.failure_rate = updated_rate(self.failure_rate, passed=passed, blamed=blamed)
        await self._parts.store.write(
            "count_judged",
            repository=self._repository,
            failure_rate=self.failure_rate,
            judged=passed + blamed,
        )

    async def show(self, cars: Sequence[Car]) -> None:
        """Write down the train for people."""
        async with self._parts.store.transaction("train_shown") as tx:
            await tx.run("clear_cars", repository=self._repository)
            for position, car in enumerate(cars, start=1):
                await tx.run(
                    "add_car",
                    repository=self._repository,
                    position=position,
                    task_id=car.task_id,
                    commit_id=car.commit,
                )
