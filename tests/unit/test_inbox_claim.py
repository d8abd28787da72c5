"""Claiming, undoing and quarantining real files: nothing is ever lost."""

import os
from pathlib import Path

import pytest

from alluvium_like.durable import rename_noreplace
from alluvium_like.inbox import claim
from alluvium_like.inbox.claim import (
    ClaimFailed,
    Place,
    move_into_task,
    quarantine,
    sync_claim,
    undo_empty,
    where_is,
)
from alluvium_like.inbox.look import Ignore, Item, list_items
from alluvium_like.workspace import Workspace

HOSTILE_NAMES = (b"two\nlines", b"-rf", b"x" * 255, b"\xff\xfe", b"reason.txt", b".reason.txt.tmp")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    workspace = Workspace.at(tmp_path)
    workspace.make_folders()
    return workspace


def only_item(work: Workspace) -> Item:
    [item] = list_items(work.inbox, Ignore((), ()))
    return item


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_file_moves_under_its_raw_name_into_input(work: Workspace, name: bytes) -> None:
    (work.inbox / os.fsdecode(name)).write_text("content")
    folder = work.task("t1")
    move_into_task(work.inbox, only_item(work), folder)
    sync_claim([folder], work.tasks, work.inbox)
    assert {os.fsencode(entry) for entry in names(folder.input)} == {name}
    assert (folder.input / os.fsdecode(name)).read_text() == "content"
    assert names(work.inbox) == set()


def test_a_folder_becomes_input(work: Workspace) -> None:
    (work.inbox / "d" / ".git").mkdir(parents=True)
    (work.inbox / "d" / "f").write_text("content")
    folder = work.task("t1")
    move_into_task(work.inbox, only_item(work), folder)
    sync_claim([folder], work.tasks, work.inbox)
    assert contents(folder.root) == {"input", "input/f", "input/.git"}


@pytest.mark.parametrize("target", ["/etc/passwd", "nowhere", "link"])
def test_a_symlink_is_claimed_as_the_link_it_is(work: Workspace, target: str) -> None:
    (work.inbox / "link").symlink_to(target)
    folder = work.task("t1")
    move_into_task(work.inbox, only_item(work), folder)
    assert (folder.input / "link").readlink() == Path(target)


def test_the_same_name_twice_gives_two_tasks(work: Workspace) -> None:
    for number in ("1", "2"):
        (work.inbox / "a").write_text(number)
        move_into_task(work.inbox, only_item(work), work.task(f"t{number}"))
    assert (work.task("t1").input / "a").read_text() == "1"
    assert (work.task("t2").input / "a").read_text() == "2"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_item_that_was_replaced_goes_back_untouched(work: Workspace, kind: str) -> None:
    (work.inbox / "a").write_text("looked at")
    item = only_item(work)
    (work.inbox / "a").rename(work.root / "kept")
    if kind == "file":
        (work.inbox / "a").write_text("swapped in")
    else:
        (work.inbox / "a").mkdir()
    with pytest.raises(ClaimFailed, match="replaced"):
        move_into_task(work.inbox, item, work.task("t1"))
    assert (work.inbox / "a").is_dir() == (kind == "folder")
    assert names(work.inbox) == {"a"}
    assert names(work.tasks) == set()


def test_a_replaced_item_that_cannot_go_back_is_kept_and_named(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.inbox / "a").mkdir()
    item = only_item(work)
    (work.inbox / "a").rename(work.root / "kept")
    (work.inbox / "a").mkdir()
    real = rename_noreplace

    def rename_and_drop_another(source: Path, target: Path) -> None:
        real(source, target)
        (work.inbox / "a").write_text("a third one")

    monkeypatch.setattr(claim, "rename_noreplace", rename_and_drop_another)
    with pytest.raises(ClaimFailed, match="t1"):
        move_into_task(work.inbox, item, work.task("t1"))
    assert work.task("t1").input.is_dir(), "even an empty folder is somebody's"
    assert (work.inbox / "a").read_text() == "a third one"


def test_an_item_that_is_gone_leaves_no_task_folder(work: Workspace) -> None:
    (work.inbox / "a").touch()
    item = only_item(work)
    (work.inbox / "a").unlink()
    with pytest.raises(ClaimFailed, match="gone"):
        move_into_task(work.inbox, item, work.task("t1"))
    assert names(work.tasks) == set()


def test_an_existing_task_folder_is_neither_used_nor_touched(work: Workspace) -> None:
    (work.inbox / "a").touch()
    work.task("t1").root.mkdir()
    with pytest.raises(FileExistsError):
        move_into_task(work.inbox, only_item(work), work.task("t1"))
    assert work.task("t1").root.is_dir()
    assert (work.inbox / "a").exists()


def test_a_full_disk_is_the_machines_trouble_not_the_items(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.inbox / "a").touch()

    def full(_source: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claim, "rename_noreplace", full)
    with pytest.raises(OSError, match="No space left"):
        move_into_task(work.inbox, only_item(work), work.task("t1"))
    with pytest.raises(OSError, match="No space left"):
        quarantine(work.inbox, only_item(work), work.quarantine, "why")
    assert names(work.tasks) == names(work.quarantine) == set()
    assert (work.inbox / "a").exists()


def test_a_claim_syncs_every_folder_that_changed(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(claim, "fsync_dir", synced.append)
    folders = [work.task("t1"), work.task("t2")]
    sync_claim(folders, work.tasks, work.inbox)
    inside = [path for folder in folders for path in (folder.input, folder.root)]
    assert synced == [*inside, work.tasks, work.inbox]


@pytest.mark.parametrize("is_dir", [True, False])
def test_after_a_crash_the_item_is_found_where_it_is(work: Workspace, *, is_dir: bool) -> None:
    dropped = work.inbox / "a\n\udcff"
    if is_dir:
        dropped.mkdir()
    else:
        dropped.touch()
    item = only_item(work)
    folder = work.task("t1")

    def place() -> Place:
        return where_is(work.inbox, folder, item.inode, item.name)

    assert place() is Place.IN_INBOX
    folder.root.mkdir()
    if not is_dir:
        folder.input.mkdir()
    assert place() is Place.IN_INBOX
    undo_empty(folder)
    assert not folder.root.exists()
    move_into_task(work.inbox, item, folder)
    assert place() is Place.IN_TASK
    moved = folder.input if is_dir else folder.input / dropped.name
    moved.rename(work.root / "taken")
    assert place() is Place.NOWHERE
    dropped.write_text("another one of the same name")
    assert place() is Place.NOWHERE


def test_undoing_never_removes_content(work: Workspace) -> None:
    folder = work.task("t1")
    folder.input.mkdir(parents=True)
    (folder.input / "f").touch()
    undo_empty(folder)
    assert (folder.input / "f").exists()
    (folder.input / "f").rename(folder.root / "elsewhere")
    undo_empty(folder)
    assert contents(folder.root) == {"elsewhere"}
    undo_empty(work.task("never made"))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_quarantine_keeps_the_item_with_its_reason(work: Workspace, name: bytes) -> None:
    (work.inbox / os.fsdecode(name)).write_text("content")
    folder = quarantine(work.inbox, only_item(work), work.quarantine, "it is too odd")
    assert folder.parent == work.quarantine
    assert (folder / os.fsdecode(name)).read_text() == "content"
    [note] = names(folder) - {os.fsdecode(name)}
    text = (folder / note).read_text()
    assert "it is too odd" in text
    assert name.decode("utf-8", "backslashreplace").replace("\n", "\\n") in text
    assert len(text.splitlines()) == 3
    assert names(work.inbox) == set()


def test_quarantine_is_durable(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[object] = []
    real = rename_noreplace
    monkeypatch.setattr(claim, "fsync_dir", steps.append)
    monkeypatch.setattr(os, "fsync", lambda _fd: steps.append("reason"))

    def rename(source: Path, target: Path) -> None:
        steps.append("rename")
        real(source, target)

    monkeypatch.setattr(claim, "rename_noreplace", rename)
    (work.inbox / "a").touch()
    folder = quarantine(work.inbox, only_item(work), work.quarantine, "why")
    assert steps == ["reason", "rename", folder, work.quarantine, work.inbox]


def test_quarantine_takes_what_nobody_may_open(work: Workspace) -> None:
    (work.inbox / "d").mkdir()
    os.mkfifo(work.inbox / "d" / "pipe")
    folder = quarantine(work.inbox, only_item(work), work.quarantine, "d/pipe is a FIFO")
    assert (folder / "d" / "pipe").is_fifo()
    assert "d/pipe is a FIFO" in (folder / "reason.txt").read_text()


def test_a_quarantine_that_fails_leaves_nothing_behind(work: Workspace) -> None:
    (work.inbox / "a").write_text("looked at")
    item = only_item(work)
    (work.inbox / "a").rename(work.root / "kept")
    with pytest.raises(ClaimFailed, match="gone"):
        quarantine(work.inbox, item, work.quarantine, "why")
    (work.inbox / "a").write_text("swapped in")
    with pytest.raises(ClaimFailed, match="replaced"):
        quarantine(work.inbox, item, work.quarantine, "why")
    assert names(work.quarantine) == set()
    assert (work.inbox / "a").read_text() == "swapped in"


def test_a_failure_tells_people_a_name_that_is_safe_to_show(work: Workspace) -> None:
    item = Item(b"\x1b[31m\n\xff", 1, 1, is_dir=False)
    with pytest.raises(ClaimFailed) as caught:
        move_into_task(work.inbox, item, work.task("t1"))
    assert str(caught.value).isprintable()
    assert caught.value.code == 2
