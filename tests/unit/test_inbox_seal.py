"""A seal breaks with whatever is done to what was dropped, and with nothing else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from alluvium_like.clock import utc_now
from alluvium_like.inbox.seal import find_change, is_sealed, seal_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The input of a task, as deep below the folder of all tasks as it really is."""
    made = tmp_path / "tasks" / "t" / "input"
    (made / "sub").mkdir(parents=True)
    (made / "note.md").write_text("please")
    (made / "sub" / "more").write_text("more")
    (made / "link").symlink_to("/etc/passwd")
    return made


def wait_for_a_tick(folder: Path) -> None:
    """Wait until the file system's clock, which is coarse, goes on."""
    probe = folder.parents[1] / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.touch()


def rewrite(folder: Path) -> None:
    """Forge a file with its size and all times that a program can set."""
    facts = (folder / "note.md").stat()
    (folder / "note.md").write_text("forged")
    os.utime(folder / "note.md", ns=(facts.st_atime_ns, facts.st_mtime_ns))


def relink(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("/etc/shadow")


DEEDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "input/note.md": (rewrite, "forged with its times"),
    "input/sub/new": (lambda folder: (folder / "sub" / "new").touch(), "added"),
    "input/sub": (lambda folder: (folder / "sub" / "more").unlink(), "taken away"),
    "input/link": (relink, "leads elsewhere"),
    "input/sub/more": (lambda folder: (folder / "sub" / "more").chmod(0o777), "other rights"),
    "input": (lambda folder: shutil.rmtree(folder), "all gone"),
}


@pytest.mark.parametrize("what", DEEDS)
def test_whatever_is_done_is_found_with_its_place_and_time(folder: Path, what: str) -> None:
    seal = seal_of(folder)
    wait_for_a_tick(folder)
    begun = utc_now()
    wait_for_a_tick(folder)
    DEEDS[what][0](folder)
    change = find_change(folder, seal)
    assert change is not None
    assert change.what == what
    assert change.last <= utc_now()
    assert change.first <= change.last
    if what != "input":  # of what is gone nothing tells since when
        assert begun <= change.first


def test_what_was_only_looked_at_is_unchanged(folder: Path) -> None:
    seal = seal_of(folder)
    (folder / "note.md").read_text()
    list(folder.iterdir())
    folder.parents[2].rename(folder.parents[2].with_name("moved"))
    moved = folder.parents[2].with_name("moved") / "tasks" / "t" / "input"
    assert is_sealed(moved, seal)
    assert find_change(moved, seal) is None


def test_a_copy_is_not_held_to_the_seal(folder: Path, tmp_path: Path) -> None:
    seal = seal_of(folder)
    shutil.copytree(tmp_path / "tasks", tmp_path / "copy", symlinks=True)
    assert is_sealed(folder, seal)
    assert not is_sealed(tmp_path / "copy" / "t" / "input", seal)


def test_many_changes_are_counted_and_odd_names_are_inert(folder: Path) -> None:
    seal = seal_of(folder)
    wait_for_a_tick(folder)
    for number in range(9):
        (folder / f"a\x1b[31m{number}").touch()
    change = find_change(folder, seal)
    assert change is not None
    assert change.what.isprintable()
    assert change.what.endswith(" and 6 more")
