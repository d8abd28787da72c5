"""Quarantine: every item that the daemon set aside can be told, put back whole, or deleted."""

import os
from pathlib import Path

import pytest

from alluvium_like.errors import AlluviumError
from alluvium_like.inbox.claim import quarantine
from alluvium_like.inbox.look import Ignore, list_items
from alluvium_like.lock import workspace_lock
from alluvium_like.surface.quarantine import Entry, drop, entries, find, release
from alluvium_like.workspace import Workspace

NAMES = (
    b"note.md",
    b"two\nlines",
    b"-rf",
    b"raw\xff\xfe",
    b"\x1b[31mred\x07",
    b"n" * 255,
    b"reason.txt",
    b"Reason.TXT",
    b"why-in-quarantine.txt",
)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    space = Workspace.at(tmp_path / "ws")
    space.make_folders()
    return space


def set_aside(
    space: Workspace, name: bytes, reason: str = "it holds a FIFO", text: str = "x"
) -> Path:
    """Let the daemon's own function set an item aside, and return its folder."""
    path = os.path.join(os.fsencode(space.inbox), name)  # noqa: PTH118
    Path(os.fsdecode(path)).write_text(text)
    (item,) = [i for i in list_items(space.inbox, Ignore((), ())) if i.name == name]
    return quarantine(space.inbox, item, space.quarantine, reason)


def only(space: Workspace) -> Entry:
    (entry,) = entries(space)
    return entry


@pytest.mark.parametrize("name", NAMES)
def test_an_item_of_any_name_is_told_and_comes_back_as_it_was(
    space: Workspace, name: bytes
) -> None:
    folder = set_aside(space, name)
    entry = only(space)
    assert (entry.path, entry.reason) == (folder, "it holds a FIFO")
    assert [os.fsencode(item) for item in entry.items] == [name]
    document = entry.document()
    assert str(document).isprintable()
    assert isinstance(document["bytes"], int)
    assert document["bytes"] > 0
    release(space, entry)
    assert os.listdir(os.fsencode(space.inbox)) == [name]
    assert Path(os.fsdecode(os.path.join(os.fsencode(space.inbox), name))).read_text() == "x"  # noqa: PTH118
    assert entries(space) == []


def test_a_forged_note_costs_no_item(space: Workspace) -> None:
    folder = set_aside(space, b"reason.txt", text="reason: none\nname: why-in-quarantine.txt\n")
    release(space, only(space))
    assert entries(space) == []
    (back,) = space.inbox.iterdir()
    assert back.name == folder.name
    assert (back / "reason.txt").read_text().startswith("reason: none")


def test_nothing_in_the_inbox_is_overwritten(space: Workspace) -> None:
    set_aside(space, b"a.tar.gz", text="first")
    (space.inbox / "a.tar.gz").write_text("second")
    (space.inbox / "a-2.tar.gz").write_text("third")
    assert release(space, only(space)) == ["a-3.tar.gz"]
    assert (space.inbox / "a.tar.gz").read_text() == "second"
    assert (space.inbox / "a-2.tar.gz").read_text() == "third"
    assert (space.inbox / "a-3.tar.gz").read_text() == "first"


def test_what_was_laid_beside_an_item_comes_back_too(space: Workspace) -> None:
    folder = set_aside(space, b"a.md")
    (folder / "b.md").write_text("mended")
    assert release(space, only(space)) == ["a.md", "b.md"]
    assert entries(space) == []


def test_what_was_laid_there_meanwhile_is_not_thrown_away(space: Workspace) -> None:
    folder = set_aside(space, b"a.md")
    entry = only(space)
    (folder / "b.md").write_text("new")
    assert release(space, entry) == ["a.md"]
    assert only(space).items == ("b.md",)


def test_a_release_is_durable_before_its_note_goes(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = set_aside(space, b"a.md")
    synced: list[str] = []
    real = os.fsync

    def note(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    release(space, only(space))
    assert synced == ["inbox", folder.name, "quarantine", "trash"]


def test_a_crash_after_the_move_leaves_a_note_that_can_be_dropped(space: Workspace) -> None:
    folder = set_aside(space, b"a.md")
    (folder / "a.md").rename(space.inbox / "a.md")
    with pytest.raises(AlluviumError, match="nothing but its reason"):
        release(space, only(space))
    drop(space, only(space))
    assert (space.inbox / "a.md").exists()


def test_links_and_folders_without_rights_are_not_followed(
    space: Workspace, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "reason.txt").write_text("reason: planted\nname: file\n")
    (mine / "file").write_text("mine")
    (space.quarantine / "link").symlink_to(mine)
    folder = set_aside(space, b"a.md")
    (folder / "a.md").unlink()
    (folder / "a.md").symlink_to(mine / "file")
    by_hand = find(space, "link")
    assert (by_hand.items, by_hand.reason) == (("link",), "")
    assert release(space, by_hand) == ["link"]
    assert (space.inbox / "link").is_symlink()
    drop(space, find(space, "a.md"))
    assert sorted(path.name for path in mine.iterdir()) == ["file", "reason.txt"]


def test_any_part_of_a_name_that_means_one_entry_will_do(space: Workspace) -> None:
    first, second = set_aside(space, b"a-report.md"), set_aside(space, b"b-report.md")
    assert find(space, first.name).path == first
    assert find(space, "b-rep").path == second
    assert find(space, second.name[-6:]).path == second
    with pytest.raises(AlluviumError, match="matches several"):
        find(space, "report")
    with pytest.raises(AlluviumError, match="quarantine list"):
        find(space, "gone\x1b")


def test_a_dropped_entry_is_deleted_at_once_where_no_daemon_runs(space: Workspace) -> None:
    set_aside(space, b"a.md")
    drop(space, only(space))
    assert entries(space) == []
    assert list(space.trash.iterdir()) == []


def test_with_a_daemon_a_dropped_entry_is_left_to_its_janitor(space: Workspace) -> None:
    set_aside(space, b"a.md")
    with workspace_lock(space):
        drop(space, only(space))
    assert entries(space) == []
    assert len(list(space.trash.iterdir())) == 1


def test_the_oldest_comes_first(space: Workspace) -> None:
    for name, at in ((b"new", 2000), (b"old", 1000)):
        note = set_aside(space, name) / "reason.txt"
        os.utime(note, (at, at))
    assert [entry.items for entry in entries(space)] == [("old",), ("new",)]
    assert entries(Workspace.at(space.root / "nowhere")) == []
