"""What the daemon takes out of the inbox, when, and what it leaves or sets aside."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bed import Bed

WRITER = """
import os, sys
folder = sys.argv[1]
os.mkdir(folder + "/folder")
parts = [open(folder + name, "w") for name in ("/file", "/folder/first")]
for text in ("one ", "two ", "three"):
    for part in parts:
        part.write(text)
        part.flush()
    if text == "two ":
        open(folder + "/folder/second", "w").write("whole")
    print("written", flush=True)
    sys.stdin.readline()
for part in parts:
    part.close()
"""
ODD_NAMES = (
    b"two\nlines",
    b"-rf",
    b"--help",
    b"raw\xff\xfe",
    b"\x1b[31mred\x07",
    b"n" * 255,
    "\N{PILE OF POO}".encode() * 63,
    b"reason.txt",
    b"input",
)


def input_of(bed: Bed, name: str) -> Path:
    return bed.folder(name) / "input"


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Make a folder read-only for everybody, root included, or skip the test."""
    if os.geteuid() == 0:
        subprocess.run(["chattr", "+i", folder], check=False, stderr=subprocess.DEVNULL)
    else:
        folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK) and _can_write(folder):
            pytest.skip("nothing is read-only for this user here")
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "-i", folder], check=False, stderr=subprocess.DEVNULL)
        else:
            folder.chmod(0o755)


def _can_write(folder: Path) -> bool:
    try:
        (folder / ".probe.tmp").touch()
    except OSError:
        return False
    (folder / ".probe.tmp").unlink()
    return True


def test_an_item_is_taken_when_it_is_whole_and_one_that_was_published_at_once(bed: Bed) -> None:
    bed.make(config="[safety]\ninbox_settle_seconds = 1")
    bed.start()

    def let_settle_time_pass(name: str) -> None:
        """A file that was written and closed after the others has settled."""
        (bed.inbox / name).write_text("short")
        bed.wait_for(name, "done")

    with subprocess.Popen(
        [sys.executable, "-c", WRITER, bed.inbox],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for step in ("1", "2", "3"):
            assert writer.stdout.readline() == "written\n"
            let_settle_time_pass(f"short{step}")
            assert {"file", "folder"} <= {path.name for path in bed.inbox.iterdir()}, "still open"
            writer.stdin.write("go on\n")
            writer.stdin.flush()
    for name in ("file", "folder"):
        bed.wait_for(name, "done")
    assert (input_of(bed, "file") / "file").read_text() == "one two three"
    assert (input_of(bed, "folder") / "first").read_text() == "one two three"
    assert (input_of(bed, "folder") / "second").read_text() == "whole"

    bed.configure("[safety]\ninbox_settle_seconds = 300")
    assert bed.cli("reload") == "changed: safety.inbox_settle_seconds\n"
    bed.drop("published")
    (bed.inbox / ".folder.tmp").mkdir()
    (bed.inbox / ".folder.tmp" / "file").touch()
    (bed.inbox / ".folder.tmp").rename(bed.inbox / "published folder")
    bed.cli("submit", str(bed.root / "config.toml"))
    for name in ("published", "published folder", "config.toml"):
        bed.wait_for(name, "done")


def test_whatever_lies_in_the_inbox_is_taken_set_aside_or_left(bed: Bed) -> None:
    bed.make(config="[safety]\nmax_workers = 3")
    secret = bed.root.parent / "secret"
    secret.write_text("private")
    inbox = os.fsencode(bed.inbox)
    for raw in ODD_NAMES:
        Path(os.fsdecode(inbox + b"/" + raw)).write_bytes(raw)
    os.mkfifo(bed.inbox / "fifo")
    with socket.socket(socket.AF_UNIX) as end, _inside(bed.inbox):
        end.bind("socket")
    (bed.inbox / "pack").mkdir()
    os.mkfifo(bed.inbox / "pack" / "inner")
    for name, target in (("link", str(secret)), ("dangling", "nowhere"), ("loop", "loop")):
        (bed.inbox / name).symlink_to(target)
    left = [".hidden", "a.tmp", "b.part", "c.partial", "d.crdownload"]
    for name in left:
        (bed.inbox / name).touch()
    (bed.inbox / "nested" / ".git").mkdir(parents=True)
    bed.start()
    counts = bed.wait_until_idle()

    links = ("link", "dangling", "loop")
    assert counts == {"done": len(ODD_NAMES) + len(links) + 1}
    assert sorted(path.name for path in bed.inbox.iterdir()) == left
    status = bed.json("status")
    assert (status["inbox"], status["quarantine"]) == (0, 3)
    reasons = {
        next(line for line in note.read_text().splitlines() if line.startswith("reason: "))
        for note in bed.root.glob("quarantine/*/reason.txt")
    }
    assert reasons == {
        "reason: fifo is a FIFO",
        "reason: socket is a socket",
        "reason: pack/inner is a FIFO",
    }
    assert len(list(bed.root.glob("quarantine/*/pack/inner"))) == 1
    for name in links:
        assert (input_of(bed, name) / name).is_symlink()
    assert (input_of(bed, "link") / "link").readlink() == secret
    assert secret.read_text() == "private"
    assert (input_of(bed, "nested") / ".git").is_dir()

    tasks = bed.json("list")
    for raw in ODD_NAMES:
        text = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode()
            for c in raw.decode("utf-8", "backslashreplace")
        )
        (task,) = [task for task in tasks if task["name"] == text]
        (file,) = (bed.root / "tasks" / task["id"] / "input").iterdir()
        assert os.fsencode(file.name) == file.read_bytes() == raw
    (red,) = [task for task in tasks if "red" in task["name"]]
    assert f"name          {red['name']}\n" in bed.cli("show", red["id"])
    assert "\x1b" not in bed.cli("list")


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_an_inbox_that_is_locked_or_replaced_is_gone_on_with(bed: Bed) -> None:
    bed.make()
    bed.drop("locked")
    with unwritable(bed.inbox):
        bed.start()
        bed.wait(lambda: bool(bed.json("status")["degraded"]), "told")
        (told,) = bed.json("status")["degraded"]
        assert told["name"] == "inbox"
        assert "items cannot be taken out of it" in told["reason"]
        assert bed.json("status")["quarantine"] == 0
    bed.wait_for("locked", "done")
    bed.wait(lambda: bed.json("status")["daemon"]["state"] == "running", "no longer told")

    bed.inbox.rmdir()
    bed.wait(lambda: bed.json("status")["daemon"]["state"] == "degraded", "missed")
    bed.inbox.mkdir()
    bed.drop("first")
    bed.wait_for("first", "done")
    bed.drop("second")  # the slow look is a minute away: an event brought this one
    bed.wait_for("second", "done")
    bed.wait(lambda: bed.json("status")["daemon"]["state"] == "running", "no longer told")

    bed.inbox.rename(bed.root / "old")  # which raises no event in the folder
    bed.inbox.mkdir()
    bed.cli("reload")
    for name in ("third", "fourth"):
        bed.drop(name)
        bed.wait_for(name, "done")
