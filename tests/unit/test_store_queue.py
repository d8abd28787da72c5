"""The rows of the merge queue: what is coupled next, and what a run of the tests says of a tree."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from alluvium_like.lifecycle import State, TaskKind
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.writer import Store

REPOSITORY = "default"


@asynccontextmanager
async def opened(path: Path, *names: str) -> AsyncIterator[Store]:
    """Open a store in which these tasks wait to be coupled, in this order."""
    store = await Store.open(path / "db")
    try:
        async with store.transaction("tested") as tx:
            for name in names:
                await tx.run("create_revert", id=name, name=name, reverts="", input_seal="")
        yield store
    finally:
        await store.close()


async def to_couple(store: Store, most: int = 10) -> list[str]:
    return [task.id for task in await store.to_couple(REPOSITORY, most)]


async def begin(store: Store, tree: str = "tree", digest: str = "digest") -> int:
    async with store.transaction("tested") as tx:
        (row,) = await tx.run(
            "begin_trial", repository=REPOSITORY, commit_id="c", tree=tree, digest=digest
        )
    number: int = row["id"]
    return number


async def end(store: Store, number: int, result: str) -> None:
    await store.write("end_trial", id=number, result=result, command="", exit_text="")


async def seen(store: Store, tree: str = "tree", digest: str = "digest") -> tuple[int, int]:
    (row,) = await store.rows("runs_of_tree", tree=tree, digest=digest)
    return row["green"], row["red"]


async def land(store: Store, state: str, *tasks: str) -> int:
    async with store.transaction("tested") as tx:
        (row,) = await tx.run(
            "prepare_landing", repository=REPOSITORY, old_commit="o", new_commit="n"
        )
        for task in tasks:
            await tx.run("add_landing_task", landing_id=row["id"], task_id=task, commit_id="n")
        await tx.run("set_landing_state", id=row["id"], state=state, reason="")
    number: int = row["id"]
    return number


async def test_the_order_is_by_priority_and_then_first_come(tmp_path: Path) -> None:
    async with opened(tmp_path, "a", "b", "c") as store:
        async with store.transaction("tested") as tx:
            await tx.run("create_task", id="running", name="r", priority=9, input_seal="")
            await tx.run("create_task", id="urgent", name="u", priority=5, input_seal="")
            task = await tx.start_attempt(await tx.get("urgent"), "default")
            await tx.run(
                "end_attempt",
                task_id="urgent",
                number=task.attempt,
                ending="exited",
                exit_code=0,
                verdict="to_integrator",
                reason="",
                end_commit="",
                outcome="ok",
            )
            await tx.transition("urgent", expect=State.RUNNING, to=State.WORKER_DONE)
        assert await to_couple(store) == ["urgent", "a", "b", "c"]
        assert await to_couple(store, 2) == ["urgent", "a"]


async def test_a_car_and_what_waits_to_land_are_not_coupled_again(tmp_path: Path) -> None:
    async with opened(tmp_path, "a", "b", "c", "d") as store:
        for name in ("a", "b", "c"):
            await store.transition(name, expect=State.WORKER_DONE, to=State.INTEGRATING)
        await store.write("add_car", repository=REPOSITORY, position=1, task_id="a", commit_id="c")
        landing = await land(store, "blocked", "b")
        assert await to_couple(store) == ["c", "d"]
        await store.write("set_landing_state", id=landing, state="void", reason="")
        await store.write("clear_cars", repository=REPOSITORY)
        assert await to_couple(store) == ["a", "b", "c", "d"]
        await store.write("add_car", repository="another", position=1, task_id="a", commit_id="c")
        assert await to_couple(store) == ["a", "b", "c", "d"]


async def test_a_result_is_about_a_tree_and_a_gate(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for result in ("red", "green", "red", "interrupted"):
            await end(store, await begin(store), result)
        await begin(store)  # under way: says nothing yet
        await end(store, await begin(store, tree="another"), "green")
        await end(store, await begin(store, digest="another"), "green")
        assert await seen(store) == (1, 2)
        assert await seen(store, tree="another") == (1, 0)
        assert await seen(store, digest="another") == (1, 0)
        assert await seen(store, tree="never") == (0, 0)


async def test_red_is_believed_until_it_is_doubted_and_green_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for result in ("red", "green"):
            await end(store, await begin(store), result)
        under_way = await begin(store)
        await store.write("doubt_red_trials")
        assert await seen(store) == (1, 1), "before a green one it tells of a flake"
        await end(store, under_way, "red")
        assert await seen(store) == (1, 2)
        await store.write("doubt_red_trials")
        assert await seen(store) == (1, 1)
        await end(store, await begin(store), "red")
        assert await seen(store) == (1, 2), "what ends after the doubt is believed"


async def test_what_a_dead_daemon_left_open_says_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        number = await begin(store)
        await store.write("interrupt_trials", repository=REPOSITORY)
        await end(store, number, "red")  # too late
        assert await seen(store) == (0, 0)
        with StoreReader(tmp_path / "db") as reader:
            assert reader.open_trials(REPOSITORY) == []


@pytest.mark.parametrize(
    ("results", "flakes"),
    [(["red", "green"], 1), (["green", "red"], 0), (["red", "red"], 0), (["green", "green"], 0)],
)
async def test_a_flake_is_red_and_then_green_on_one_tree(
    tmp_path: Path, results: list[str], flakes: int
) -> None:
    async with opened(tmp_path) as store:
        for result in results:
            await end(store, await begin(store), result)
        await end(store, await begin(store, digest="another"), "red")
        with StoreReader(tmp_path / "db") as reader:
            assert len(reader.last_flakes(REPOSITORY, 10)) == flakes


async def test_only_a_landing_under_way_is_protected_from_a_withdrawal(tmp_path: Path) -> None:
    async with opened(tmp_path, "a") as store:
        for state, held in (("prepared", 1), ("blocked", 0), ("landed", 0), ("void", 0)):
            number = await land(store, state, "a")
            assert len(await store.rows("being_landed", task_id="a")) == held
            await store.write("set_landing_state", id=number, state="void", reason="")


async def test_a_revert_is_finished_work_with_a_history_from_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path, "a") as store:
        task = await store.get("a")
        assert (task.kind, task.state, task.attempt) == (TaskKind.REVERT, State.WORKER_DONE, 0)
        assert [row["to_state"] for row in await store.events_of("a")] == ["worker_done"]
