"""The trash: whatever lies in it is deleted, and nothing beside it."""

import os
import stat
from pathlib import Path

import pytest

from alluvium_like.deletion import empty
from alluvium_like.stages.trash import disk_size, is_really_there, throw_away


def never() -> bool:
    return False


def test_hostile_trees_are_deleted_and_what_they_point_at_is_not(tmp_path: Path) -> None:
    trash, mine = tmp_path / "trash", tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    tree = trash / "x"
    (tree / "locked" / "deeper").mkdir(parents=True)
    (tree / "locked" / "deeper" / "file").write_text("x")
    (tree / "link").symlink_to(mine)
    (trash / "link").symlink_to(mine)
    os.mkfifo(tree / "fifo")
    Path(os.fsdecode(bytes(tree) + b"/raw\xff\n")).write_text("x")
    (tree / "locked" / "deeper").chmod(0)
    (tree / "locked").chmod(0)
    empty(trash, never)
    assert list(trash.iterdir()) == []
    assert (mine / "file").read_text() == "mine"


def test_what_is_nested_deeper_than_any_stack_is_deleted(tmp_path: Path) -> None:
    trash = tmp_path / "trash"
    trash.mkdir()
    here = os.getcwd()  # noqa: PTH109
    try:
        os.chdir(trash)
        for _ in range(3000):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
    finally:
        os.chdir(here)
    assert disk_size(trash) > 0
    empty(trash, never)
    assert list(trash.iterdir()) == []


def test_a_stop_leaves_the_rest_for_later(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    empty(tmp_path, lambda: True)
    assert (tmp_path / "a").exists()


def test_only_real_folders_lead_to_what_is_thrown_away(tmp_path: Path) -> None:
    trash, root, other = tmp_path / "trash", tmp_path / "root", tmp_path / "other"
    for folder in (trash, root / "a", other):
        folder.mkdir(parents=True)
    (other / "file").write_text("x")
    (root / "a" / "file").write_text("x")
    (root / "link").symlink_to(other)
    assert is_really_there(root, ["a", "file"])
    assert not is_really_there(root, ["link", "file"])
    assert not is_really_there(root, ["a", "gone"])
    with pytest.raises(OSError, match="link"):
        throw_away(root, ["link", "file"], trash)
    throw_away(root, ["link"], trash)
    throw_away(root, ["a", "file"], trash)
    assert (other / "file").exists()
    kinds = sorted(stat.S_IFMT(path.lstat().st_mode) for path in trash.iterdir())
    assert kinds == sorted((stat.S_IFLNK, stat.S_IFREG))


def test_moves_are_made_durable_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trash, root = tmp_path / "trash", tmp_path / "root"
    for folder in (trash, root / "a"):
        folder.mkdir(parents=True)
    synced: list[str] = []
    real = os.fsync

    def note(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    throw_away(root, ["a"], trash)
    assert synced == ["root", "trash"]
