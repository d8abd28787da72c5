"""The pool holds on to what it stumbles over, and says so without a secret."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from alluvium_like.config import Config, parse_config
from alluvium_like.lifecycle import State
from alluvium_like.masking import remember
from alluvium_like.stages.dispatch import pool
from alluvium_like.stages.parts import Parts, Runs, Settings, Wakes
from alluvium_like.store.writer import Store
from alluvium_like.task import Task, TaskSettings

HUSH = "hush-4716-stumbled"


async def test_what_the_daemon_stumbles_over_is_put_to_a_person_without_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object) -> None:
        raise RuntimeError(f"no place for {HUSH}")

    async def tell(error: BaseException) -> bool:
        return False

    remember([HUSH])
    monkeypatch.setattr(pool, "run_attempt", stumble)
    store = await Store.open(tmp_path / "db")
    async with store.transaction("tested") as tx:
        await tx.run("create_task", id="t", name="t", priority=0, input_seal="")
    parts = SimpleNamespace(
        store=store,
        settings=Settings(Config()),
        wakes=Wakes(),
        runs=Runs(),
        health=SimpleNamespace(is_well=True, tell=lambda error: False),
        tell=tell,
    )
    try:
        async with anyio.create_task_group() as stages:
            stages.start_soon(pool.Dispatch(cast(Parts, parts)).run)
            await parts.wakes.idle.wait(60)
            parts.runs.stop_all(now=True)
            parts.wakes.set_all()
        task = await store.get("t")
        (asked,) = await store.rows("checkpoints_of_task", task_id="t")
    finally:
        await store.close()
    assert task.state is State.NEEDS_HUMAN
    for said in (task.reason, asked["question"]):
        assert "the daemon stumbled over this attempt: RuntimeError('no place for [masked]" in said


async def test_a_task_that_was_changed_meanwhile_is_begun_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(tmp_path / "db")
    config = parse_config({"agents": {"other": {"command": ["true"]}}})
    parts = cast(Parts, SimpleNamespace(store=store, settings=Settings(config)))
    try:
        async with store.transaction("tested") as tx:
            await tx.run("create_task", id="t", name="t", priority=0, input_seal="")
            old = await tx.get("t")
            await tx.change_settings(old, "other", 0, TaskSettings(timeout_seconds=5))
        seen = iter([old])
        real = store.next_runnable

        async def next_runnable(now: str, too_far: str, held: Sequence[str]) -> Task | None:
            return next(seen, None) or await real(now, too_far, held)

        monkeypatch.setattr(store, "next_runnable", next_runnable)
        taken = await pool.Dispatch(parts)._take_next()
    finally:
        await store.close()
    assert taken is not None
    task, agent = taken
    assert (task.attempt, agent.name, agent.profile.timeout_seconds) == (1, "other", 5)
