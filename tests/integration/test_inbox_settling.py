"""From drop to settled with real writers: the parts put together as the intake stage does."""

import os
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from alluvium_like.clock import monotonic
from alluvium_like.inbox.claim import move_into_task
from alluvium_like.inbox.look import Ignore, Item, Limits, examine, list_items
from alluvium_like.inbox.settle import Settling
from alluvium_like.inbox.watch import Watcher
from alluvium_like.wake import Wake
from alluvium_like.workspace import TaskFolder

SETTLE = 0.1
SOON = 10.0
IGNORE = Ignore((".",), (".tmp",))
LIMITS = Limits(entries=1000, size=1000)
WRITER = """
import sys
with open(sys.argv[1], "w") as stream:
    stream.write("first half, ")
    stream.flush()
    print(end="written", flush=True)
    sys.stdin.readline()
    stream.write("second half")
"""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="open writers are seen on Linux")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


async def look(inbox: Path, settling: Settling, renamed: set[bytes]) -> list[Item]:
    """Take one look at the inbox and return what may be claimed."""
    items = await anyio.to_thread.run_sync(list_items, inbox, IGNORE)
    settling.update(items, renamed, monotonic())
    ready: list[Item] = []
    for item in settling.due(monotonic()):
        seen = await anyio.to_thread.run_sync(examine, inbox, item, LIMITS)
        if settling.observe(item, seen):
            ready.append(item)
    return ready


async def next_ready(inbox: Path, settling: Settling, watcher: Watcher, wake: Wake) -> list[Item]:
    """Look at every wake and whenever something is due, until something may be claimed."""
    with anyio.fail_after(SOON):
        while True:
            renamed = watcher.take_renamed()
            ready = await look(inbox, settling, renamed)
            if ready:
                return ready
            at = settling.next_look()
            await wake.wait(SOON if at is None else max(0.0, at - monotonic()))


@linux_only
async def test_a_writer_that_pauses_longer_than_the_settle_time_is_waited_for(
    inbox: Path, tmp_path: Path
) -> None:
    settling = Settling(SETTLE)
    wake = Wake()
    async with (
        await anyio.open_process([sys.executable, "-c", WRITER, str(inbox / "slow")]) as writer,
        Watcher(inbox, wake) as watcher,
    ):
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert await writer.stdout.receive() == b"written"
        await look(inbox, settling, set())
        for _ in range(2):
            at = settling.next_look()
            assert at is not None
            await anyio.sleep(at - monotonic())
            assert await look(inbox, settling, set()) == [], "still open"
        await writer.stdin.send(b"\n")
        [item] = await next_ready(inbox, settling, watcher, wake)
    await anyio.to_thread.run_sync(move_into_task, inbox, item, TaskFolder(tmp_path / "task"))
    assert (tmp_path / "task" / "input" / "slow").read_text() == "first half, second half"


@linux_only
async def test_a_rename_within_or_from_outside_is_claimable_at_its_first_look(
    inbox: Path, tmp_path: Path
) -> None:
    settling = Settling(3600.0)
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        (inbox / ".a.tmp").write_text("within")
        (inbox / ".a.tmp").rename(inbox / "a")
        [item] = await next_ready(inbox, settling, watcher, wake)
        assert item.name == b"a"
        (inbox / "a").unlink()
        (tmp_path / "d" / "sub").mkdir(parents=True)
        (tmp_path / "d").rename(inbox / "d")
        [item] = await next_ready(inbox, settling, watcher, wake)
        assert (item.name, item.is_dir) == (b"d", True)


@linux_only
async def test_a_folder_renamed_in_with_an_open_writer_has_to_settle(
    inbox: Path, tmp_path: Path
) -> None:
    settling = Settling(SETTLE)
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        (tmp_path / "d").mkdir()
        with (tmp_path / "d" / "f").open("w") as stream:
            (tmp_path / "d").rename(inbox / "d")
            assert await wake.wait(SOON)
            assert await look(inbox, settling, watcher.take_renamed()) == []
            stream.write("rest")
        [item] = await next_ready(inbox, settling, watcher, wake)
    dropped = anyio.Path(inbox, os.fsdecode(item.name), "f")
    assert await dropped.read_text() == "rest"


async def test_a_growing_folder_is_not_settled_until_it_stops_growing(inbox: Path) -> None:
    settling = Settling(SETTLE)
    (inbox / "d" / "sub").mkdir(parents=True)
    await look(inbox, settling, set())
    for number in range(3):
        (inbox / "d" / "sub" / str(number)).touch()
        at = settling.next_look()
        assert at is not None
        await anyio.sleep(at - monotonic())
        assert await look(inbox, settling, set()) == []
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        [item] = await next_ready(inbox, settling, watcher, wake)
    assert item.name == b"d"


@linux_only
async def test_without_settle_time_a_closed_writer_is_noticed_by_its_event(inbox: Path) -> None:
    settling = Settling(0.0)
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        with (inbox / "a").open("w"):
            assert await wake.wait(SOON)
            assert await look(inbox, settling, set()) == []
        closed = monotonic()
        [_] = await next_ready(inbox, settling, watcher, wake)
        assert monotonic() - closed < 0.45


async def test_without_settle_time_a_dropped_file_is_claimable_at_once(inbox: Path) -> None:
    (inbox / "a").write_text("x")
    [item] = await look(inbox, Settling(0.0), set())
    assert item.name == b"a"
