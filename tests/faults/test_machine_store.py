"""A store in trouble: waited for, opened anew, never trusted blindly, and never the end of work."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bed import COMMIT, HOLD, Bed, daemon
from machine_bed import Syncs, is_merged_once, wait_until_told, wait_until_well

from alluvium_like.errors import StoreError
from alluvium_like.store.connection import Connection

# One commit of each kind in the life of a task.
COMMITS = (
    "claim_begun",
    "claimed",
    "attempt_begun",
    "attempt_started",
    "attempt_ended",
    "train_joined",
    "landing_prepared",
    "landed",
)


def database(bed: Bed) -> Path:
    return bed.root / ".alluvium" / "alluvium.db"


def test_while_the_store_is_locked_nothing_is_lost_and_then_it_goes_on(bed: Bed) -> None:
    """The end of an attempt falls into the time of the lock, and so do an item and a command."""
    bed.make(HOLD + COMMIT)
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "running")
    with closing(sqlite3.connect(database(bed), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bed.release("t")
        bed.drop("later")
        wait_until_told(bed, "store", "database is locked")
        assert bed.task("t")["state"] == "running"
        refused = bed.cli("pause", code=1)
        assert "database is locked; try again" in refused
        assert len(refused.splitlines()) == 1
        bed.set_agent(COMMIT)
    is_merged_once(bed, "t", "later")
    assert bed.task("t")["attempts"] == 1, "its end was held on to"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_that_is_told_to_have_failed_is_looked_at_and_not_done_twice(
    bed: Bed, moment: str
) -> None:
    """After an IO error nobody knows whether the last commit lasted: here once, then not once."""
    points = [f"store.{name}:{moment}:EIO" for name in COMMITS]
    bed.environment["ALLUVIUM_FAILPOINTS"] = ";".join(points)
    bed.make(COMMIT)
    bed.start()
    bed.drop("t")
    is_merged_once(bed, "t")
    assert bed.landed_task_ids() == [bed.task("t")["id"]]
    log = (bed.root / "logs" / "daemon.jsonl").read_text()
    for name in COMMITS:
        assert f"injected at store.{name}" in log
    bed.cli("verify")


def test_a_failed_sync_of_the_store_is_never_repeated_on_its_descriptor(bed: Bed) -> None:
    syncs = Syncs(bed)
    bed.make(COMMIT)
    bed.start()
    with syncs.failing("alluvium.db"):
        bed.drop("t")
        wait_until_told(bed, "store", "disk I/O error")
    is_merged_once(bed, "t")
    bed.stop()
    assert any(line.startswith("failed") for line in syncs.seen())
    assert not [line for line in syncs.seen() if line.startswith("AGAIN")]
    del bed.environment["LD_PRELOAD"]
    bed.cli("verify")


def test_a_store_that_turns_out_damaged_ends_the_daemon_and_is_left_as_it_is(bed: Bed) -> None:
    bed.make(HOLD + COMMIT)
    bed.start()
    served = daemon(bed)
    bed.drop("t")
    bed.wait_for("t", "running")
    with closing(sqlite3.connect(database(bed), isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.execute("UPDATE meta SET value = value")  # the daemon has to read it all anew
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(database(bed).read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    with database(bed).open("r+b") as stream:
        stream.write(damaged)
    bed.drop("next")
    assert served.ends_within(30)
    said = (bed.root / "logs" / "daemon.err").read_text()
    assert "the file was left as it is: restore a backup into an empty folder" in said
    assert len(said.splitlines()) == 1
    assert database(bed).read_bytes() == damaged
    assert "restore a backup" in bed.cli("start", code=1)
    assert database(bed).read_bytes() == damaged
    assert (bed.inbox / "next").exists()


async def test_a_store_that_cannot_have_its_journal_mode_is_refused() -> None:
    """SQLite itself says no in an answer, not in an error, where it has to stay in memory."""
    with pytest.raises(StoreError, match="refuses SQLite's WAL mode; put the workspace"):
        await (await Connection.open(Path(":memory:"))).close()


def test_a_store_that_is_locked_or_without_shared_memory_at_the_start_is_told_in_one_line(
    bed: Bed,
) -> None:
    """Neither is called damaged. Some file systems of other machines cannot share memory."""
    bed.make()
    bed.start()
    bed.stop()
    with closing(sqlite3.connect(database(bed), isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        said = bed.cli("start", code=1)
    assert "database is locked; try again" in said
    assert len(said.splitlines()) == 1
    before = database(bed).read_bytes()
    shared = database(bed).with_name("alluvium.db-shm")
    shared.mkdir()
    said = bed.cli("start", code=1)
    assert "put the workspace on a local disk" in said
    assert len(said.splitlines()) == 1
    assert database(bed).read_bytes() == before
    shared.rmdir()
    bed.start()
    wait_until_well(bed)
