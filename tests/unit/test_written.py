"""Which files in a task's folder are as the daemon left them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from alluvium_like.guarded import append, link_into, open_folder, place
from alluvium_like.stages.system_files import SystemFiles, changed_files, read_system
from alluvium_like.written import WRITTEN


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    WRITTEN.want(wanted=True)
    yield
    WRITTEN.want(wanted=False)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    folder = tmp_path / ".system"
    (folder / "attempts" / "1").mkdir(parents=True)
    (folder / "attempts" / "1" / "stdout.log").write_text("said")
    write(folder, "first\n")
    return folder


def write(folder: Path, text: str) -> None:
    with open_folder(folder) as opened:
        append(opened, "events.jsonl", text.encode())


def changed(before: SystemFiles | None, folder: Path) -> list[str]:
    return changed_files(before, read_system(folder))


def test_what_the_daemon_writes_is_its_own(system: Path, tmp_path: Path) -> None:
    before = read_system(system)
    write(system, "second\n")
    write(system, "third\n")
    (tmp_path / "1.log").write_text("output")
    with open_folder(system) as opened:
        place(opened, "patch.diff", "once")
        place(opened, "patch.diff", "again")
        link_into(opened, "tests.log", tmp_path / "1.log")
    (tmp_path / "other").hardlink_to(tmp_path / "1.log")  # that of another task
    assert changed(before, system) == []


def test_what_was_written_before_the_last_look_but_one_explains_nothing(system: Path) -> None:
    assert changed({}, system) == ["attempts/1/stdout.log"]
    WRITTEN.looked()
    assert changed({}, system) == ["attempts/1/stdout.log"]
    WRITTEN.looked()
    assert changed({}, system) == ["attempts/1/stdout.log", "events.jsonl"]


@pytest.mark.parametrize("daemon_writes_too", [False, True])
@pytest.mark.parametrize(
    ("deed", "names"),
    [
        ("grow", ["events.jsonl"]),
        ("same size", ["events.jsonl"]),
        ("replace", ["events.jsonl"]),
        ("delete", ["events.jsonl"]),
        ("link away", ["events.jsonl"]),
        ("output", ["attempts/1/stdout.log"]),
        ("add", ["approved"]),
        ("mode", ["events.jsonl"]),
    ],
)
def test_what_somebody_else_does_is_found(
    system: Path, tmp_path: Path, deed: str, names: list[str], daemon_writes_too: bool
) -> None:
    before = read_system(system)
    events = system / "events.jsonl"
    match deed:
        case "grow":
            with events.open("a") as stream:
                stream.write("forged\n")
        case "same size":
            times = events.stat()
            with events.open("r+") as stream:
                stream.write("FIRST\n")
            os.utime(events, ns=(times.st_atime_ns, times.st_mtime_ns - 1))
        case "replace":
            (system / "new").write_text("first\n")
            (system / "new").rename(events)
        case "delete":
            events.unlink()
        case "link away":
            events.rename(tmp_path / "taken")
            events.symlink_to(tmp_path / "taken")
        case "output":
            (system / "attempts" / "1" / "stdout.log").write_text("said something else")
        case "add":
            (system / "approved").write_text("yes")
        case "mode":
            events.chmod(0o666)
    if daemon_writes_too:
        write(system, "second\n")
    found = changed(before, system)
    assert set(names) <= set(found)
    assert all(name in names or "aside" in name for name in found)
