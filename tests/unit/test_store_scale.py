"""What a long life would make slow: counting, finding, listing, choosing, and checking the file."""

import os
import shutil
import sqlite3
from pathlib import Path

import aiosqlite
import pytest

from alluvium_like.errors import AlluviumError, StoreError
from alluvium_like.lifecycle import Outcome, State
from alluvium_like.store import connection
from alluvium_like.store.closing import note_closed, take_note
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.sql import query
from alluvium_like.store.writer import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alluvium.db"


async def make(path: Path, **tasks: State) -> None:
    """Make a store with these tasks, in this order, and close it."""
    store = await Store.open(path)
    try:
        for task_id, state in tasks.items():
            await store.write("create_task", id=task_id, name=task_id, priority=0, input_seal="")
            if state is State.DONE:
                await store.transition(task_id, expect=State.QUEUED, to=State.RUNNING)
                await store.transition(
                    task_id, expect=State.RUNNING, to=State.DONE, outcome=Outcome.NOOP
                )
            elif state is State.CANCELLED:
                await store.transition(task_id, expect=State.QUEUED, to=State.CANCELLED)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("count_states", ["SCAN tasks USING COVERING INDEX"]),
        ("count_outcomes", ["SEARCH tasks USING COVERING INDEX tasks_by_outcome (state=?)"]),
        # The agents that cannot work are few; their list is made once.
        (
            "next_runnable",
            ["SCAN tasks USING INDEX tasks_runnable", "LIST SUBQUERY", "SCAN json_each VIRTUAL"],
        ),
        ("next_due", ["SEARCH tasks USING INDEX tasks_due (not_before>?)"]),
        ("tasks_with_events_after", ["SEARCH events USING INTEGER PRIMARY KEY"]),
        ("events_after", ["SEARCH events USING INTEGER PRIMARY KEY"]),
        ("find_tasks", ["SCAN tasks USING COVERING INDEX", "USE TEMP B-TREE"]),
        ("open_attempts", ["SCAN attempts USING INDEX attempts_open"]),
        ("open_landing", ["SEARCH landings USING INDEX landings_open"]),
    ],
)
async def test_what_is_asked_often_reads_an_index_and_sorts_nothing(
    path: Path, name: str, plan: list[str]
) -> None:
    await make(path)
    params = dict.fromkeys(("part", "now", "too_far", "repository", "state"), "")
    params |= {"seq": "0", "held": "[]"}
    with sqlite3.connect(path) as db:
        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query(name)}", params)]
    db.close()
    steps = [step for step in steps if "DISTINCT" not in step and "GROUP BY" not in step]
    assert len(steps) == len(plan), steps
    for step, start in zip(steps, plan, strict=True):
        assert step.startswith(start), steps


async def test_counts_follow_every_step_of_every_task(path: Path) -> None:
    await make(path, a=State.DONE, b=State.CANCELLED, c=State.QUEUED, d=State.DONE)
    with StoreReader(path) as reader:
        assert {k: v for k, v in reader.counts().items() if v} == {
            "done": 2,
            "cancelled": 1,
            "queued": 1,
        }
        assert reader.outcomes() == {"merged": 0, "noop": 2}


async def test_a_whole_id_is_found_even_where_it_is_part_of_others(path: Path) -> None:
    await make(path, ab=State.QUEUED, xab=State.QUEUED, xabx=State.QUEUED, b_=State.QUEUED)
    with StoreReader(path) as reader:
        assert [reader.find(part).id for part in ("ab", "xab", "abx", "_")] == [
            "ab",
            "xab",
            "xabx",
            "b_",
        ]
        with pytest.raises(AlluviumError, match="'b' matches several tasks: ab, xab, xabx, b_;"):
            reader.find("b")
        with pytest.raises(AlluviumError, match="no task matches 'B'"):
            reader.find("B")


async def test_a_list_holds_all_that_has_not_ended_and_the_newest_of_the_rest(path: Path) -> None:
    await make(
        path,
        old=State.DONE,
        waits=State.QUEUED,
        given_up=State.CANCELLED,
        new=State.DONE,
        newest=State.QUEUED,
    )
    with StoreReader(path) as reader:

        def ids(state: State | None, newest: int) -> list[str]:
            return [task.id for task in reader.tasks(state, newest=newest)]

        assert ids(None, 0) == ["old", "waits", "given_up", "new", "newest"]
        assert ids(None, 3) == ids(None, 0)
        assert ids(None, 2) == ["waits", "given_up", "new", "newest"]
        assert ids(None, 1) == ["waits", "new", "newest"]
        assert ids(State.DONE, 0) == ["old", "new"]
        assert ids(State.DONE, 1) == ["new"]
        assert ids(State.CANCELLED, 1) == ["given_up"]
        assert ids(State.QUEUED, 1) == ["waits", "newest"], "what has not ended is never left out"


async def checked_at_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Open and close the store; tell whether the whole file was checked."""
    found: list[bool] = []
    real = connection._prepare

    async def prepare(db: aiosqlite.Connection, path: Path, *, check: bool) -> None:
        found.append(check)
        await real(db, path, check=check)

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_prepare", prepare)
        await (await Store.open(path)).close()
    [checked] = found
    return checked


async def test_only_a_store_that_was_closed_in_order_is_not_read_whole_at_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await checked_at_open(path, monkeypatch)
    assert not await checked_at_open(path, monkeypatch)

    os.utime(path)
    assert await checked_at_open(path, monkeypatch), "somebody has touched it"

    shutil.copy2(path, path.with_suffix(".backup"))
    path.with_suffix(".backup").rename(path)
    assert await checked_at_open(path, monkeypatch), "somebody has restored it"

    store = await Store.open(path)
    try:
        await store.set_meta("k", "v")
        left = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    finally:
        await store.close()
    for file in path.parent.iterdir():
        file.unlink()
    for name, content in left.items():
        path.with_name(name).write_bytes(content)
    assert await checked_at_open(path, monkeypatch), "its daemon was killed"
    assert not await checked_at_open(path, monkeypatch)


async def test_a_store_in_which_something_failed_is_checked_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(path)
    try:
        with pytest.raises(StoreError):
            async with store.transaction("tested") as tx:
                await tx.run("create_task", id=None, name="", priority=0, input_seal="")
    finally:
        await store.close()
    assert await checked_at_open(path, monkeypatch)


async def test_damage_in_the_middle_of_a_file_that_was_closed_in_order_is_told(path: Path) -> None:
    await make(path, **{f"t{number}": State.QUEUED for number in range(50)})
    data = bytearray(path.read_bytes())
    data[4096 : len(data) : 4096] = b"\xff" * len(data[4096 : len(data) : 4096])
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged|malformed") as told:
        await Store.open(path)
    assert "left as it is" in str(told.value)
    assert path.read_bytes() == data


def test_a_note_is_believed_once_and_never_beside_a_journal(path: Path) -> None:
    path.write_bytes(b"content")
    assert not take_note(path)
    note_closed(path)
    assert take_note(path)
    assert not take_note(path)

    journal = path.with_name(path.name + "-wal")
    journal.touch()
    note_closed(path)
    journal.write_bytes(b"left over")
    assert not take_note(path)
    note_closed(path)
    journal.unlink()
    assert not take_note(path), "nothing is noted beside a journal"

    note_closed(path)
    path.unlink()
    assert not take_note(path)
