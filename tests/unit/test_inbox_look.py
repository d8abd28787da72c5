"""What a look at the inbox sees, on real files."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from alluvium_like.inbox.lease import has_open_writer, ignore_lease_signals
from alluvium_like.inbox.look import Examination, Ignore, Item, Limits, examine, list_items

NOTHING = Ignore((), ())
LIMITS = Limits(entries=1000, size=1000)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
HOSTILE_NAMES = (
    b"two\nlines",
    b"-rf",
    b"x" * 255,
    b"\xff\xfe not utf-8",
    b"\x1b[31mred",
    "schöner Name".encode(),
    b" ",
    b"~",
    b"*",
)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def only_item(inbox: Path) -> Item:
    [item] = list_items(inbox, NOTHING)
    return item


def look(inbox: Path) -> Examination:
    return examine(inbox, only_item(inbox), LIMITS)


def test_the_oldest_comes_first_and_names_decide_between_equals(inbox: Path) -> None:
    for name, mtime in ((b"new", 30), (b"old", 10), (b"b", 20), (b"a", 20)):
        (inbox / os.fsdecode(name)).touch()
        os.utime(inbox / os.fsdecode(name), (mtime, mtime))
    assert [item.name for item in list_items(inbox, NOTHING)] == [b"old", b"a", b"b", b"new"]


def test_ignored_names_are_not_listed(inbox: Path) -> None:
    ignore = Ignore((".",), (".tmp", ".part"))
    for name in (".hidden", "a.tmp", "b.part", "tmp", "c.tmpl"):
        (inbox / name).touch()
    assert {item.name for item in list_items(inbox, ignore)} == {b"tmp", b"c.tmpl"}
    assert ignore.matches(b"\xff.tmp")


def test_a_missing_inbox_is_not_an_empty_one(inbox: Path) -> None:
    inbox.rmdir()
    with pytest.raises(FileNotFoundError):
        list_items(inbox, NOTHING)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_listed_and_examined(inbox: Path, name: bytes) -> None:
    (inbox / os.fsdecode(name)).write_text("x")
    item = only_item(inbox)
    assert item.name == name
    seen = examine(inbox, item, LIMITS)
    assert seen.fingerprint is not None
    assert seen.obstacle == ""


def test_an_untouched_folder_looks_the_same_twice(inbox: Path) -> None:
    (inbox / "d" / "sub").mkdir(parents=True)
    (inbox / "d" / "sub" / "f").write_text("abc")
    first, second = look(inbox), look(inbox)
    assert first.fingerprint is not None
    assert first.fingerprint == second.fingerprint
    assert first.began <= first.ended <= second.began


def test_the_order_in_which_a_folder_is_read_does_not_matter(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "d").mkdir()
    for name in "abc":
        (inbox / "d" / name).touch()
    item = only_item(inbox)
    before = examine(inbox, item, LIMITS)
    backwards = list(os.scandir(inbox / "d"))[::-1]
    monkeypatch.setattr(os, "scandir", lambda _folder: contextlib.nullcontext(backwards))
    assert examine(inbox, item, LIMITS).fingerprint == before.fingerprint


def test_every_kind_of_change_in_a_folder_changes_its_fingerprint(inbox: Path) -> None:
    deep = inbox / "d" / "sub" / "deep"
    deep.mkdir(parents=True)
    file = deep / "f"
    file.write_text("abc")
    steps: tuple[Callable[[], object], ...] = (
        lambda: (deep / "new").write_text("grown"),
        lambda: file.write_text("xyz"),
        lambda: os.utime(file, ns=(1, 1)),
        lambda: os.utime(file, ns=(1, 1)),  # only the ctime tells
        lambda: file.rename(deep / "g"),
        lambda: (deep / "g").unlink(),
        lambda: (deep / "link").symlink_to("a"),
    )
    prints = [look(inbox).fingerprint]
    for step in steps:
        step()
        prints.append(look(inbox).fingerprint)
    assert None not in prints
    assert len(set(prints)) == len(steps) + 1


def test_a_replaced_or_gone_item_has_no_fingerprint(inbox: Path) -> None:
    file = inbox / "a"
    file.write_text("one")
    item = only_item(inbox)
    other = inbox / "b"
    other.write_text("two")
    other.rename(file)
    assert examine(inbox, item, LIMITS).fingerprint is None
    file.unlink()
    assert examine(inbox, item, LIMITS).fingerprint is None


def test_entries_that_vanish_during_the_walk_leave_no_fingerprint(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = inbox / "d" / "sub"
    doomed.mkdir(parents=True)
    item = only_item(inbox)
    real = os.scandir

    def scandir_and_remove(folder: int) -> contextlib.nullcontext[list[os.DirEntry[str]]]:
        listing = list(real(folder))
        doomed.rmdir()
        return contextlib.nullcontext(listing)

    monkeypatch.setattr(os, "scandir", scandir_and_remove)
    assert examine(inbox, item, LIMITS).fingerprint is None


@pytest.mark.parametrize("target", ["/etc", "/etc/shadow", "nowhere", "link"])
def test_a_symlink_is_an_item_of_its_own_and_never_followed(inbox: Path, target: str) -> None:
    (inbox / "link").symlink_to(target)
    item = only_item(inbox)
    assert not item.is_dir
    seen = examine(inbox, item, LIMITS)
    assert seen.fingerprint is not None
    assert (seen.obstacle, seen.has_writer) == ("", False)


def test_symlinks_inside_a_folder_are_never_followed(inbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.mkfifo(outside / "pipe")
    (inbox / "d").mkdir()
    (inbox / "d" / "out").symlink_to(outside)
    (inbox / "d" / "loop").symlink_to(".")
    assert look(inbox).obstacle == ""


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # A socket's path is short; make it next to the root of the file system's temporary folder.
    folder = Path(tempfile.mkdtemp())
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
    (folder / "s").rename(path)
    folder.rmdir()


def make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make a device")


@pytest.mark.parametrize(
    ("make", "kind"), [(make_fifo, "FIFO"), (make_socket, "socket"), (make_device, "device")]
)
def test_what_is_no_file_is_an_obstacle_and_never_opened(inbox: Path, make, kind: str) -> None:  # type: ignore[no-untyped-def]
    make(inbox / "top\n")
    assert look(inbox).obstacle == f"top\\n is a {kind}"
    (inbox / "top\n").unlink()
    (inbox / "d" / "sub").mkdir(parents=True)
    make(inbox / "d" / "sub" / "in")
    seen = look(inbox)
    assert seen.obstacle == f"d/sub/in is a {kind}"
    assert seen.fingerprint is not None, "it settles like any other item before it is set aside"


def test_a_folder_that_may_not_be_read_is_an_obstacle() -> None:
    base = Path(tempfile.mkdtemp())  # the folders that pytest makes are closed to other users
    locked = base / "d" / "locked"
    locked.mkdir(parents=True)
    base.chmod(0o755)
    locked.chmod(0)
    item = only_item(base)
    try:
        if os.geteuid() == 0:
            os.seteuid(65534)
        seen = examine(base, item, LIMITS)
        assert seen.obstacle == "d/locked is a folder that the daemon may not read"
    finally:
        os.seteuid(os.getuid())
        locked.chmod(0o700)
        shutil.rmtree(base)


@linux_only
def test_another_file_system_inside_is_an_obstacle(inbox: Path) -> None:
    mounted = inbox / "d" / "mounted"
    mounted.mkdir(parents=True)
    script = (
        "import sys; from pathlib import Path; from alluvium_like.inbox import look\n"
        "inbox = Path(sys.argv[1])\n"
        "[item] = look.list_items(inbox, look.Ignore((), ()))\n"
        "print(look.examine(inbox, item, look.Limits(9, 9)).obstacle)"
    )
    mount = 'mount -t tmpfs none "$1" && exec "$2" -c "$3" "$4"'
    argv = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]
    found = subprocess.run(
        [*argv, str(mounted), sys.executable, script, str(inbox)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in found.stderr or "mount" in found.stderr:
        pytest.skip("this system lets nobody mount")
    assert found.stdout == "d/mounted is on another file system\n", found.stderr


def test_a_folder_nested_beyond_all_paths_is_an_obstacle(inbox: Path) -> None:
    levels = 30
    here = os.open(inbox, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("n" * 200, dir_fd=here)
        deeper = os.open("n" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        assert look(inbox).obstacle.endswith("is nested too deeply")
    finally:
        subprocess.run(["rm", "-rf", str(inbox)], check=True)


@linux_only
def test_an_open_writer_is_seen_and_a_closed_one_is_not(inbox: Path) -> None:
    (inbox / "d").mkdir()
    for name in ("a", "f", "z"):
        (inbox / "d" / name).touch()
    with (inbox / "d" / "f").open("w"):
        assert look(inbox).has_writer
    assert not look(inbox).has_writer
    with (inbox / "d" / "f").open("r"):
        assert not look(inbox).has_writer, "a reader is no writer"


@linux_only
def test_a_hard_linked_file_is_fine_and_its_other_name_does_not_hide_a_writer(
    inbox: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("x")
    (inbox / "f").hardlink_to(tmp_path / "other")
    seen = look(inbox)
    assert (seen.obstacle, seen.has_writer) == ("", False)
    with (tmp_path / "other").open("a"):
        assert look(inbox).has_writer


@linux_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave a file of another user")
def test_a_file_of_another_user_counts_as_not_written() -> None:
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    file = base / "f"
    try:
        with file.open("w"):
            file.chmod(0o644)
            os.seteuid(65534)
            assert not has_open_writer(file)
    finally:
        os.seteuid(0)
        shutil.rmtree(base)


@linux_only
def test_no_descriptors_left_is_not_taken_for_no_writer(inbox: Path) -> None:
    (inbox / "f").touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            has_open_writer(inbox / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@linux_only
def test_writers_that_come_while_the_lease_is_held_harm_nobody(inbox: Path) -> None:
    """A fresh interpreter with default signals looks all the time while others open the file."""
    file = inbox / "f"
    file.touch()
    script = (
        "import os, sys; from alluvium_like.inbox.lease import has_open_writer\n"
        "print('ready', flush=True)\n"
        "while os.stat(sys.argv[1]).st_size < 1500:\n"
        "    has_open_writer(sys.argv[1])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE
    ) as looking:
        assert looking.stdout is not None
        assert looking.stdout.readline() == b"ready\n"

        def write() -> None:
            for _ in range(500):
                with file.open("ab") as stream:
                    stream.write(b"x")

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert looking.wait() == 0
    assert file.read_bytes() == b"x" * 1500


def test_the_daemon_survives_sigio_and_its_children_do_not_inherit_that() -> None:
    before = signal.getsignal(signal.SIGIO)
    try:
        ignore_lease_signals()
        signal.raise_signal(signal.SIGIO)
        child = subprocess.run(["sh", "-c", "kill -s IO $$"], check=False)
        assert child.returncode == -signal.SIGIO
    finally:
        signal.signal(signal.SIGIO, before)
