"""Hundreds of items dropped at once: the first agents start meanwhile, and a kill loses none."""

import os
import signal

from bed import HOLD, PATIENCE_SECONDS, Bed, Witness

from alluvium_like.store.reader import StoreReader
from alluvium_like.workspace import Workspace

COUNT = 300


def drop_many(bed: Bed, first: int = 0) -> None:
    outside = bed.root / "ready"
    outside.mkdir(exist_ok=True)
    numbers = range(first, first + COUNT)
    for number in numbers:
        (outside / f"{number}").write_text(f"text {number}")
    for number in numbers:
        (outside / f"{number}").rename(bed.inbox / f"{number}")


def known(bed: Bed) -> list[str]:
    """Return the names of all tasks, as often as there are tasks of them."""
    with StoreReader(bed.root / ".alluvium" / "alluvium.db") as store:
        return sorted((task.name for task in store.tasks()), key=int)


def expect_whole(bed: Bed, count: int) -> None:
    """Every item is one task, and its content lies in that task's folder and nowhere else."""
    assert known(bed) == [str(number) for number in range(count)]
    assert not list(bed.inbox.iterdir())
    space = Workspace.at(bed.root)
    with StoreReader(space.database) as store:
        tasks = store.tasks()
    for task in tasks:
        [item] = space.task(task.id).input.iterdir()
        assert (item.name, item.read_text()) == (task.name, f"text {task.name}")
    assert {folder.name for folder in space.tasks.iterdir()} == {task.id for task in tasks}
    assert not list(space.quarantine.iterdir())


def wait_for_more_than(bed: Bed, count: int) -> None:
    bed.wait(lambda: len(known(bed)) > count, "the first of the new ones are taken")


def test_a_kill_while_hundreds_are_taken_loses_and_doubles_nothing(bed: Bed) -> None:
    bed.make(HOLD, config="[safety]\nmax_workers = 1\nshutdown_grace_seconds = 0")
    killed_within = 0
    for dropped in (0, COUNT, 2 * COUNT):
        served = Witness(bed.start())
        drop_many(bed, dropped)
        wait_for_more_than(bed, dropped)
        os.kill(served.pid, signal.SIGKILL)
        assert served.ends_within(PATIENCE_SECONDS)
        killed_within += bool(list(bed.inbox.iterdir()))
    assert killed_within, "at least one kill met a drop that was being taken"
    bed.start()
    bed.wait(lambda: len(known(bed)) == 3 * COUNT, "all are taken")
    expect_whole(bed, 3 * COUNT)


def test_agents_start_while_the_rest_is_still_being_taken(bed: Bed) -> None:
    bed.make(HOLD, config="[safety]\nmax_workers = 1\nshutdown_grace_seconds = 0")
    bed.start()
    drop_many(bed)
    bed.wait(lambda: len(known(bed)) == COUNT, "all are taken")
    bed.wait(lambda: bool(list(bed.root.glob("tasks/*/.agent/outputs/agent"))), "one started")
    with StoreReader(bed.root / ".alluvium" / "alluvium.db") as store:
        tasks = store.tasks()
        [running] = [task for task in tasks if task.attempt]
        [attempt] = store.attempts(running.id)
    assert running.seq == 1, "first come, first served"
    assert attempt.started_at < tasks[-1].created_at
