"""The inbox is emptied whatever happens to the watching: lost events, no events, another folder."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from bed import PROGRAM, Bed, daemon

from alluvium_like.clock import monotonic
from alluvium_like.inbox.watch import Watcher
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS
from alluvium_like.wake import Wake

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
linux_only = pytest.mark.skipif(not QUEUE.exists(), reason="inotify is Linux's")
# A user of its own to the kernel, with its own limits, so that nobody else runs out.
NAMESPACE = ("unshare", "--user", "--map-root-user")
LIMIT = "/proc/sys/user/max_inotify_{}"


def inotify_descriptors(pid: int) -> int:
    folder = Path(f"/proc/{pid}/fd")
    return sum(str(path.readlink()) == "anon_inode:inotify" for path in folder.iterdir())


def taken_before_the_slow_look(bed: Bed, name: str) -> None:
    """Wait for a task that something made the daemon look for."""
    begun = monotonic()
    bed.wait_for(name, "done")
    assert monotonic() - begun < SLOW_LOOK_SECONDS / 2


def troubles(bed: Bed) -> dict[str, str]:
    return {found["name"]: found["reason"] for found in bed.json("status")["degraded"]}


@linux_only
def test_what_came_while_the_kernel_dropped_events_is_found_at_once(bed: Bed) -> None:
    bed.make()
    pid = bed.start()
    os.kill(pid, signal.SIGSTOP)
    try:
        source = bed.root / "source"
        source.touch()
        for number in range(int(QUEUE.read_text()) + 100):
            name = bed.inbox / f".{number}"
            os.link(source, name)
            name.unlink()
        bed.drop("unheard")
    finally:
        os.kill(pid, signal.SIGCONT)
    taken_before_the_slow_look(bed, "unheard")
    bed.drop("heard")
    taken_before_the_slow_look(bed, "heard")


@linux_only
async def test_lost_events_wake_and_no_earlier_rename_is_believed(tmp_path: Path) -> None:
    """What was renamed in may be another item by then: the event that says so may be lost."""
    from watchdog.observers.inotify import InotifyObserver
    from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, WatchDescriptor

    inbox, wake = tmp_path / "inbox", Wake()
    inbox.mkdir()
    (tmp_path / "item").touch()
    async with Watcher(inbox, wake) as watcher:
        (tmp_path / "item").rename(inbox / "item")
        with anyio.fail_after(20):
            while not watcher._arrivals._renamed:
                await wake.wait(20)
            lost = InotifyEvent(WatchDescriptor(-1), InotifyConstants.IN_Q_OVERFLOW, 0, b"")
            observer = watcher._observer
            assert isinstance(observer, InotifyObserver)
            await anyio.to_thread.run_sync(observer._inotify_fd.handle_event, lost)
            while watcher._arrivals._renamed:
                await wake.wait(20)


@linux_only
def test_without_inotify_the_inbox_is_polled_and_watched_again_when_possible(bed: Bed) -> None:
    bed.make()
    limits = [LIMIT.format(what) for what in ("instances", "watches")]
    probe = subprocess.run([*NAMESPACE, "test", "-w", limits[0]], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("no user namespace to be had here")
    command = (
        f'for limit in {" ".join(limits)}; do echo 0 > $limit; done; "$@" doctor; exec "$@" serve'
    )
    argv = [*NAMESPACE, "sh", "-c", command, "sh", *PROGRAM, "-C", str(bed.root)]
    with subprocess.Popen(
        argv, env=bed.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as served:
        for number, limit in enumerate(limits):
            name = Path(limit).name.replace("max_inotify_", "fs.inotify.max_user_")
            bed.wait(lambda name=name: name in troubles(bed).get("watch", ""), "told")  # type: ignore[misc]
            assert not inotify_watches(served.pid)
            bed.drop(f"polled{number}")
            taken_before_the_slow_look(bed, f"polled{number}")
            enter = ["nsenter", "-U", "-t", str(served.pid), "--preserve-credentials"]
            subprocess.run([*enter, "sh", "-c", f"echo 100 > {limit}"], check=True)
            bed.cli("reload")  # which makes it look
        bed.wait(lambda: not troubles(bed), "no longer told")
        assert inotify_watches(served.pid) == 1
        bed.drop("heard")
        taken_before_the_slow_look(bed, "heard")
        bed.stop()
        assert served.stdout is not None
        assert "the inbox cannot be watched" in served.stdout.read()


def inotify_watches(pid: int) -> int:
    """Count what the process watches."""
    folder = Path(f"/proc/{pid}/fdinfo")
    texts = [path.read_text() for path in folder.iterdir()]
    return sum(line.startswith("inotify ") for text in texts for line in text.splitlines())


@linux_only
def test_polling_needs_no_inotify_and_a_reload_chooses(bed: Bed) -> None:
    bed.make(config='[safety]\ninbox_watch = "polling"')
    pid = bed.start()
    assert inotify_descriptors(pid) == 0
    for number, how in enumerate(("events", "polling", "auto")):
        bed.drop(f"item{number}")
        taken_before_the_slow_look(bed, f"item{number}")
        bed.configure(f'[safety]\ninbox_watch = "{how}"')
        bed.cli("reload")
        wanted = 0 if how == "polling" else 1
        bed.wait(lambda wanted=wanted: inotify_descriptors(pid) == wanted, how)  # type: ignore[misc]
    assert troubles(bed) == {}


@contextmanager
def overlay(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Mount a file system that can be changed behind its back, as a network mount is."""
    behind, work, merged, lower = (tmp_path / name for name in ("upper", "work", "merged", "lower"))
    for folder in (behind, work, merged, lower):
        folder.mkdir()
    options = f"lowerdir={lower},upperdir={behind},workdir={work}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no overlay to be mounted here: {done.stderr.strip()}")
    try:
        yield merged, behind
    finally:
        subprocess.run(["umount", str(merged)], check=True)


async def test_polling_finds_what_raises_no_events(tmp_path: Path) -> None:
    with overlay(tmp_path) as (merged, behind):
        inbox, event = merged / "inbox", Wake()
        inbox.mkdir()
        async with Watcher(inbox, Wake(), "polling") as poller, Watcher(inbox, event, "events"):
            with anyio.fail_after(20):
                await poller.wait(3600)  # its first listing
                (behind / "inbox" / "item").touch()
                await poller.wait(3600)
            names = await anyio.to_thread.run_sync(os.listdir, inbox)
            assert names == ["item"]
            assert not await event.wait(0), "nobody was told"


@pytest.mark.parametrize(("kind", "polls"), [("nfs4", True), ("ext4", False)])
async def test_a_network_mount_is_polled_unless_somebody_knows_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, polls: bool
) -> None:
    monkeypatch.setattr("alluvium_like.inbox.mounts.type_of", lambda folder: kind)
    async with Watcher(tmp_path, Wake()) as watcher:
        assert (watcher._observer is None, watcher.failure) == (polls, None)
        watcher.how = "events"
        await watcher.rewatch()
        assert watcher.alive()
        watcher.how = "auto"
        await watcher.rewatch()
        assert watcher.alive() != polls


@linux_only
async def test_a_folder_that_may_not_be_read_yet_is_not_taken_for_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alluvium_like.inbox.watch.os.access", lambda *_: False)  # we may be root
    async with Watcher(tmp_path, Wake()) as watcher:
        assert isinstance(watcher.failure, PermissionError)
        monkeypatch.undo()
        assert await watcher.rewatch()
        assert watcher.failure is None


def test_an_inbox_that_is_removed_replaced_or_a_link_is_gone_on_with(bed: Bed) -> None:
    bed.make()
    bed.start()
    bed.inbox.rmdir()
    bed.wait(lambda: "inbox" in troubles(bed), "told")
    assert "inbox" in troubles(bed)["inbox"]
    bed.inbox.mkdir()
    bed.drop("put-back")
    taken_before_the_slow_look(bed, "put-back")

    bed.inbox.rename(bed.root / "old")  # an event of its own
    bed.inbox.mkdir()
    bed.drop("replaced")
    taken_before_the_slow_look(bed, "replaced")

    bed.inbox.rename(bed.root / "elsewhere")
    bed.inbox.symlink_to("elsewhere")
    bed.drop("linked")
    taken_before_the_slow_look(bed, "linked")
    bed.drop("heard")
    taken_before_the_slow_look(bed, "heard")
    bed.wait(lambda: not troubles(bed), "no longer told")
    assert daemon(bed).alive()


def test_without_the_folder_of_tasks_items_stay_until_it_is_back(bed: Bed) -> None:
    bed.make()
    bed.start()
    away = bed.root / "away"
    (bed.root / "tasks").rename(away)
    bed.drop("item")
    bed.wait(lambda: "inbox" in troubles(bed), "told")
    assert f"No such file or directory: {bed.root / 'tasks'};" in troubles(bed)["inbox"]
    assert (bed.inbox / "item").read_text() == "please"
    away.rename(bed.root / "tasks")
    bed.wait_for("item", "done")
    bed.wait(lambda: not troubles(bed), "no longer told")
