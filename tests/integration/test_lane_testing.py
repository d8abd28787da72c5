"""The tests under way, where the store or the disk lets them down: no run is thought to go on."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock, Mock

import anyio
import pytest

from alluvium_like.config import Config
from alluvium_like.config.integration import TestCommand
from alluvium_like.errors import StoreError
from alluvium_like.execution.ports import Ports
from alluvium_like.stages.integrate import testing, trial
from alluvium_like.stages.integrate.ledger import Gate, Ledger
from alluvium_like.stages.integrate.testing import Ended, Testing
from alluvium_like.stages.integrate.train import Runs
from alluvium_like.stages.integrate.trial import Trial, run_gate
from alluvium_like.stages.parts import Parts, Wakes
from alluvium_like.stages.parts import Runs as Live
from alluvium_like.workspace import Workspace

GATE = Gate.of(())


class OneRowLedger:
    """Numbers the runs; `trouble` is raised where a result is to be written down."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.trouble = trouble
        self.results: list[bool | None] = []

    async def begin(self, *_: object) -> int:
        return 1

    async def runs(self, *_: object) -> Runs:
        return Runs()

    async def ended(self, _: int, *, green: bool, **__: object) -> None:
        if self.trouble:
            raise self.trouble
        self.results.append(green)

    async def interrupted(self, _: int) -> None:
        self.results.append(None)


def made(ledger: OneRowLedger) -> tuple[Testing, Parts]:
    parts = cast(Parts, SimpleNamespace(wakes=Wakes()))
    return Testing(parts, cast(Ledger, ledger)), parts


async def run(tests: Testing, *commits: str) -> None:
    async with anyio.create_task_group() as group:
        for commit in commits:
            await tests.start(group, commit, f"tree of {commit}", GATE, [])


async def test_a_run_whose_result_cannot_be_written_is_over_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def green(*_: object) -> Trial:
        return Trial(green=True)

    monkeypatch.setattr(testing, "try_commit", green)
    tests, parts = made(OneRowLedger(StoreError("the disk is full")))
    with pytest.raises(ExceptionGroup) as caught:
        await run(tests, "c")
    assert isinstance(caught.value.exceptions[0], StoreError)
    assert tests.under_way == frozenset()
    assert tests.take_ended() == []
    assert await parts.wakes.integrate.wait(0)


async def test_what_keeps_all_tests_from_being_run_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def broken(*_: object) -> Trial:
        raise NotADirectoryError(tmp_path)

    monkeypatch.setattr(testing, "try_commit", broken)
    ledger = OneRowLedger()
    tests, _ = made(ledger)
    await run(tests, "c", "d", "e")
    assert ledger.results == [None, None, None]
    with pytest.raises(NotADirectoryError):
        tests.take_ended()
    assert tests.take_ended() == []


async def test_what_is_given_up_says_nothing_and_all_else_what_it_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = anyio.Event()

    async def held_or_red(_: Parts, commit: str, *__: object) -> Trial:
        if commit == "held":
            begun.set()
            await anyio.sleep_forever()
        return Trial(green=False)

    monkeypatch.setattr(testing, "try_commit", held_or_red)
    ledger = OneRowLedger()
    tests, _ = made(ledger)
    async with anyio.create_task_group() as group:
        await tests.start(group, "held", "t", GATE, [])
        await begun.wait()
        await tests.start(group, "red", "tree", GATE, [])
        tests.give_up("held")
        assert tests.under_way == {"held", "red"}, "until its processes have ended"
    assert sorted(ledger.results, key=str) == [False, None]
    assert tests.take_ended() == [Ended("red", "tree", GATE.digest, green=False)]


async def test_each_test_has_room_for_its_output_whatever_the_ones_before_it_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trial, "_OUTPUT_LIMIT_BYTES", 4)
    space = Workspace.at(tmp_path)
    space.make_folders()
    nothing = AsyncMock()
    parts = SimpleNamespace(
        workspace=space,
        workspace_id="w",
        integration=Mock(),
        settings=SimpleNamespace(current=Config(), identity=None),
        slot=lambda name: SimpleNamespace(name=name, tree=tmp_path),
        warm=SimpleNamespace(take=nothing, give_back=nothing),
        runs=Live(),
        wakes=Wakes(),
        ports=Ports(),
        boxes=SimpleNamespace(of_tree=lambda *_: None),
    )
    monkeypatch.setattr(trial, "set_up", nothing)
    gate = Gate.of(tuple(TestCommand(name=n, command=f"printf {n * 6}") for n in "ab"))
    assert (await run_gate(cast(Parts, parts), "c", gate, 1)).green
    lines = space.trial_log(1).read_text().splitlines()
    kept = [line for line in lines if not line.startswith("[output limit of")]
    assert kept == ["$ printf aaaaaa", "aaaa", "$ printf bbbbbb", "bbbb"]
