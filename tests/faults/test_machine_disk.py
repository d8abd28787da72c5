"""A disk that is full, for real: told, nothing lost, nobody blamed, and gone on with by itself."""

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from agent_words import AGENT, wait_until_parked
from bed import COMMIT, Bed
from machine_bed import is_merged_once, wait_until_told

MEBIBYTE = 1 << 20
NO_FLOOR = "[retention]\nmin_free_bytes = 0\n"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Bed]:
    """A workspace whose whole disk holds 40 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    bed = Bed(disk / "ws")
    try:
        yield bed
        with suppress(OSError):
            filler(bed).unlink()
        if (bed.root / ".alluvium").exists():
            bed.stop()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def filler(bed: Bed) -> Path:
    return bed.open / "filler"


def fill(bed: Bed, leave: int = 0) -> None:
    """Take all room on the disk but `leave` bytes."""
    with filler(bed).open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(MEBIBYTE))
    size = filler(bed).stat().st_size
    with filler(bed).open("r+b") as stream:
        stream.truncate(size - leave)


@contextmanager
def full(bed: Bed, leave: int = 0) -> Iterator[None]:
    fill(bed, leave)
    yield
    filler(bed).unlink()


def test_items_that_come_while_the_disk_is_full_stay_and_are_done_when_there_is_room(
    small: Bed,
) -> None:
    small.make(COMMIT, config=NO_FLOOR)
    small.start()
    part = small.inbox / ".t.tmp"
    part.write_text("please")
    with full(small):
        part.rename(small.inbox / "t")
        wait_until_told(small, "disk", "make room on the disk")
        found = [*small.root.glob("tasks/*/input/t"), *small.inbox.glob("t")]
        assert [path.read_text() for path in found] == ["please"]
    is_merged_once(small, "t")


def test_work_that_fills_the_disk_is_taken_in_when_there_is_room(small: Bed) -> None:
    small.make(
        COMMIT + f"cat /dev/zero > {filler(small)} || true\n",
        config=NO_FLOOR + "[safety]\nmax_workers = 1\n",
    )
    small.start()
    small.drop("t")
    wait_until_told(small, "disk", "make room on the disk")
    small.set_agent(COMMIT)
    filler(small).unlink()
    is_merged_once(small, "t")


def test_an_attempt_that_cannot_be_prepared_for_want_of_room_is_not_counted(small: Bed) -> None:
    small.make(COMMIT, config=NO_FLOOR + "[safety]\nwarm_worktrees = 0\n")
    small.commit({f"large-{number}": "x" * MEBIBYTE for number in range(12)})
    small.start()
    fill(small, leave=3 * MEBIBYTE)
    small.drop("t")
    wait_until_told(small, "disk", "make room on the disk")
    filler(small).unlink()
    is_merged_once(small, "t")
    assert small.task("t")["attempts"] > 1


def test_a_landing_that_finds_no_room_for_its_files_lands_when_there_is_some(small: Bed) -> None:
    agent = """
    for number in 1 2 3 4 5 6; do head -c 1000000 /dev/zero | tr '\\0' x > large-$number; done
    git add -A; git commit -q -m "Add what packs well"
    """
    no_pool = NO_FLOOR + "[safety]\nwarm_worktrees = 0\n"
    small.make(agent, config=no_pool + "[integration]\nenabled = false\n")
    small.start()
    small.drop("t")
    small.wait_for("t", "worker_done")
    small.wait(lambda: not list(small.root.glob(".alluvium/trash/*")), "its worktree went")
    fill(small, leave=2_500_000)
    small.configure(no_pool)
    small.cli("reload")
    wait_until_told(small, "disk", "make room on the disk")
    filler(small).unlink()
    is_merged_once(small, "t")
    assert small.git("status", "--porcelain") == ""


def test_an_agent_that_fills_the_disk_fails_by_itself_and_its_room_is_given_back(
    small: Bed,
) -> None:
    greedy = 'case "$ALLUVIUM_TASK_ID" in *-bad-*) cat /dev/zero > big;; esac\n'
    small.make(greedy + COMMIT, config=NO_FLOOR + "[safety]\nmax_workers = 1\n")
    small.start()
    small.cli("pause")
    small.drop("bad")
    small.drop("good")
    small.wait(lambda: len(small.json("list")) == 2, "both are claimed")
    small.cli("resume")
    assert small.wait_for("bad", "failed", "done")["state"] == "failed"
    assert small.wait_for("good", "done", "failed")["outcome"] == "merged"
    small.wait(lambda: not small.json("status")["degraded"], "well again")


def test_what_an_agent_did_before_its_quota_was_used_up_waits_for_room(small: Bed) -> None:
    small.make(AGENT, NO_FLOOR + '[agent]\npreset = "codex"\n')
    small.start()
    small.drop(
        "t",
        f"""
        if [ $run = 1 ]; then
            begin t; work one; head -c 2000000 /dev/urandom > large
            cat /dev/zero > {filler(small)} || true; truncate -s -1000000 {filler(small)}
            trouble "usage limit reached"
        fi
        begin t; say through; work two; through 1 1
        """,
    )
    wait_until_told(small, "disk", "make room on the disk")
    filler(small).unlink()
    wait_until_parked(small, "default")
    small.wait_for("t", "queued")
    small.cli("resume")
    task = small.wait_for("t", "done", "failed", "needs_human")
    assert small.base_file(f"{task['id']}.txt") == "one\ntwo"


def test_a_backup_that_finds_no_room_is_told_in_one_line_with_its_place(small: Bed) -> None:
    small.make(config=NO_FLOOR)
    small.cli("run-once")
    (small.inbox / "large").write_bytes(random.randbytes(2 * MEBIBYTE))
    target = small.root.parent / "saved.tar.gz"
    before = set(small.root.parent.iterdir())
    for leave in (0, 8_192, MEBIBYTE):  # for nothing, not for the rows, not for the item
        with full(small, leave):
            said = small.cli("backup", str(target), code=1)
        told = f"alluvium-like: {target}: no backup was made: No space left on device"
        assert said.startswith(told)
        assert said.count("\n") == 1
        assert set(small.root.parent.iterdir()) == before
    small.cli("backup", str(target))
