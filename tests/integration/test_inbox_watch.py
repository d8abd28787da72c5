"""The watcher on a real inbox: hints arrive, and a folder that was replaced is watched again."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from alluvium_like.inbox.look import Ignore, Limits, examine, list_items
from alluvium_like.inbox.watch import Watcher
from alluvium_like.wake import Wake

NOTHING = Ignore((), ())
LIMITS = Limits(entries=1000, size=1000)
SOON = 10.0
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="renames are believed on Linux")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


async def until(wake: Wake, holds: Callable[[], bool]) -> None:
    """Wait as the stage does: look after every wake, in a thread."""
    with anyio.fail_after(SOON):
        while not await anyio.to_thread.run_sync(holds):
            await wake.wait(SOON)


async def is_alive(watcher: Watcher) -> bool:
    return await anyio.to_thread.run_sync(watcher.alive)


async def renamed_names(watcher: Watcher, wake: Wake, expected: set[bytes]) -> None:
    names: set[bytes] = set()

    def all_told() -> bool:
        names.update(watcher.take_renamed())
        return names >= expected

    await until(wake, all_told)
    assert names == expected


async def test_a_dropped_file_wakes_and_so_does_closing_it(inbox: Path) -> None:
    wake = Wake()
    async with Watcher(inbox, wake):
        stream = (inbox / "a").open("w")
        assert await wake.wait(SOON)
        stream.write("x")
        stream.close()
        assert await wake.wait(SOON)


@linux_only
async def test_renames_within_and_from_outside_are_told_as_such(
    inbox: Path, tmp_path: Path
) -> None:
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        (inbox / ".within").touch()
        (inbox / ".within").rename(inbox / "within")
        (tmp_path / "out").touch()
        (tmp_path / "out").rename(inbox / "odd\n\udcff")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder").rename(inbox / "folder")
        (inbox / "plain").touch()
        await renamed_names(watcher, wake, {b"within", b"odd\n\xff", b"folder"})
        assert watcher.take_renamed() == set()


@linux_only
async def test_a_name_that_was_created_anew_after_its_rename_is_not_told(
    inbox: Path, tmp_path: Path
) -> None:
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        (tmp_path / "a").touch()
        (tmp_path / "a").rename(inbox / "a")
        (inbox / "a").rename(tmp_path / "gone")
        (inbox / "a").touch()
        (tmp_path / "end").touch()
        (tmp_path / "end").rename(inbox / "end")
        told: set[bytes] = set()
        with anyio.fail_after(SOON):
            while b"end" not in told:
                # Taken all at once: what came before `end` has been told by then.
                await wake.wait(SOON)
                told = set(watcher._arrivals._renamed)
        assert watcher.take_renamed() == {b"end"}


@linux_only
async def test_an_item_that_left_does_not_delay_the_next_arrival(
    inbox: Path, tmp_path: Path
) -> None:
    wake = Wake()
    (inbox / "claimed").touch()
    async with Watcher(inbox, wake):
        (inbox / "claimed").rename(tmp_path / "claimed")
        (inbox / "next").touch()
        assert await wake.wait(0.45)


@linux_only
async def test_looking_and_claiming_wake_nobody(inbox: Path, tmp_path: Path) -> None:
    wake = Wake()
    (inbox / "d").mkdir()
    (inbox / "d" / "f").touch()
    (inbox / "a").touch()
    async with Watcher(inbox, wake):
        for item in await anyio.to_thread.run_sync(list_items, inbox, NOTHING):
            await anyio.to_thread.run_sync(examine, inbox, item, LIMITS)
        (inbox / "a").rename(tmp_path / "a")
        (inbox / "d").rename(tmp_path / "d")
        assert not await wake.wait(0.3)


async def test_a_burst_is_seen_whole_by_the_listing_after_the_wakes(
    inbox: Path, tmp_path: Path
) -> None:
    burst = 3_000  # names of one file: making as many files takes seconds on a busy disk
    drop = "import os, sys\nfor n in range(3000): os.link(sys.argv[1], f'{sys.argv[2]}/{n}')"
    (tmp_path / "file").touch()
    wake = Wake()
    async with Watcher(inbox, wake), anyio.create_task_group() as tasks:
        argv = [sys.executable, "-c", drop, str(tmp_path / "file"), str(inbox)]
        tasks.start_soon(anyio.run_process, argv)
        await until(wake, lambda: len(list_items(inbox, NOTHING)) == burst)


async def test_an_inbox_removed_and_made_again_is_watched_again(inbox: Path) -> None:
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        assert await is_alive(watcher)
        assert not await watcher.rewatch()
        inbox.rmdir()
        assert await wake.wait(SOON), "the stage looks at once"
        assert not await is_alive(watcher)
        assert not await watcher.rewatch(), "there is nothing to watch"
        inbox.mkdir()
        assert await watcher.rewatch()
        assert await is_alive(watcher)
        assert await wake.wait(SOON), "what arrived meanwhile is looked for"
        (inbox / "a").touch()
        assert await wake.wait(SOON)


async def test_an_inbox_replaced_by_another_folder_is_watched_again(
    inbox: Path, tmp_path: Path
) -> None:
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        inbox.rename(tmp_path / "old")
        inbox.mkdir()
        assert not await is_alive(watcher)
        assert await watcher.rewatch()
        await wake.wait(SOON)
        (inbox / "a").touch()
        assert await wake.wait(SOON)


async def test_a_dead_observer_is_found_and_replaced(inbox: Path) -> None:
    wake = Wake()
    async with Watcher(inbox, wake) as watcher:
        observer = watcher._observer
        assert observer is not None
        observer.stop()
        await anyio.to_thread.run_sync(observer.join)
        assert not await is_alive(watcher)
        assert await watcher.rewatch()
        await wake.wait(SOON)
        (inbox / "a").touch()
        assert await wake.wait(SOON)


async def test_an_inbox_behind_a_symlink_is_watched(inbox: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(inbox)
    wake = Wake()
    async with Watcher(link, wake) as watcher:
        assert await is_alive(watcher)
        (inbox / "a").touch()
        assert await wake.wait(SOON)


async def test_a_missing_inbox_does_not_stop_the_start(tmp_path: Path) -> None:
    wake = Wake()
    async with Watcher(tmp_path / "inbox", wake) as watcher:
        assert not await is_alive(watcher)
        (tmp_path / "inbox").mkdir()
        assert await watcher.rewatch()


async def test_closing_leaves_no_thread_and_no_descriptor(inbox: Path) -> None:
    await anyio.to_thread.run_sync(os.getpid)  # anyio's own worker thread stays
    threads = set(threading.enumerate())
    descriptors = len(list(Path("/dev/fd").iterdir()))
    async with Watcher(inbox, Wake()) as watcher:
        (inbox / "a").touch()
        inbox.rename(inbox.with_name("old"))
        await watcher.rewatch()
    assert set(threading.enumerate()) == threads
    assert len(list(Path("/dev/fd").iterdir())) == descriptors
