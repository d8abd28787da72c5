"""Archives: what goes in comes out, byte for byte, and nothing else ever does."""

import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from alluvium_like.deletion import empty
from alluvium_like.errors import AlluviumError, UsageError, WorkspaceError
from alluvium_like.store.snapshot import take_snapshot
from alluvium_like.store.writer import Store
from alluvium_like.surface import archive
from alluvium_like.surface.archive import MAGIC
from alluvium_like.surface.backup import Saved, back_up
from alluvium_like.surface.initialise import initialise
from alluvium_like.surface.restore import Restored, restore
from alluvium_like.surface.unpack import BadArchive, read_archive
from alluvium_like.workspace import Workspace

RAW = os.fsdecode(b"raw\xff\n\x1b")
LONG = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 127


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """A workspace whose daemon has made its store and no more."""
    initialise(tmp_path / "ws", repo=None, agent=None)
    workspace = Workspace.at(tmp_path / "ws")

    async def make() -> None:
        await (await Store.open(workspace.database)).close()

    anyio.run(make)
    return workspace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.tar.gz"


def save(workspace: Workspace, file: Path, *, force: bool = False) -> Saved:
    return back_up(workspace, file, force=force, with_repo=False)


def contents(folder: Path) -> dict[str, tuple[str, object, int]]:
    """Return every path below a folder: what it is, what it holds, its mode."""

    def look(path: Path) -> tuple[str, object, int]:
        if path.is_symlink():
            return "link", str(path.readlink()), 0
        mode = path.stat().st_mode & 0o777
        return ("folder", None, mode) if path.is_dir() else ("file", path.read_bytes(), mode)

    return {str(path.relative_to(folder)): look(path) for path in folder.rglob("*")}


def add_task(workspace: Workspace, task_id: str) -> Path:
    folder = workspace.task(task_id)
    folder.input.mkdir(parents=True)

    async def make() -> None:
        store = await Store.open(workspace.database)
        await store.write("create_task", id=task_id, name=task_id, priority=0, input_seal="")
        await store.close()

    anyio.run(make)
    return folder.root


# -- what goes in comes out --------------------------------------------------------------------


def test_names_links_modes_and_bytes_survive(space: Workspace, file: Path, tmp_path: Path) -> None:
    task = add_task(space, "t")
    for folder in (space.inbox / RAW, space.quarantine / "q" / LONG, task / "input" / "a\\b 'c'"):
        folder.mkdir(parents=True)
        (folder / RAW).write_bytes(b"\0\xff")
        (folder / "link").symlink_to("/etc/hostname")
        (folder / "dangling").symlink_to(RAW)
        (folder / "up").symlink_to("../..")
        (folder / "program").write_text("#!/bin/sh\n")
        (folder / "program").chmod(0o755)
        (folder / "empty").mkdir()
        (folder / "locked").mkdir()
        (folder / "locked" / "file").touch()
        (folder / "locked").chmod(0o555)
    (space.inbox / "linked").symlink_to("/etc")
    (space.inbox / ".hidden.tmp").write_text("still being written")
    space.config_file.write_text("[safety]\nmax_workers = 3\n")
    saved = save(space, file)
    assert (saved.tasks, saved.skipped) == (1, ())
    assert file.stat().st_mode & 0o777 == 0o600
    made = restore(file, tmp_path / "new")
    for name in ("inbox", "quarantine", "tasks", "config.toml", "prompt.md"):
        old, new = space.root / name, made.workspace.root / name
        assert (contents(old) if old.is_dir() else old.read_bytes()) == (
            contents(new) if new.is_dir() else new.read_bytes()
        )
    assert made.findings == ()
    for folder in tmp_path.rglob("locked"):
        folder.chmod(0o755)  # for the one who cleans up


def test_what_cannot_be_saved_is_told_and_holds_up_nothing(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    task = add_task(space, "t")
    os.mkfifo(task / "fifo")
    (task / "deep").mkdir()
    deep = os.open(task / "deep", os.O_RDONLY)
    for _ in range(archive.DEEPEST + 50):
        os.mkdir("x" * 50, dir_fd=deep)
        below = os.open("x" * 50, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    space.prompt_template.unlink()
    space.prompt_template.symlink_to("/etc/hostname")
    saved = save(space, file)
    assert len(saved.skipped) == 3
    assert "prompt.md: is a link" in saved.skipped[0]
    assert "more than 200 folders" in saved.skipped[1]
    assert "tasks/t/fifo: neither" in saved.skipped[2]
    made = restore(file, tmp_path / "new")
    assert not (made.workspace.task("t").root / "fifo").exists()
    assert not os.path.lexists(made.workspace.prompt_template)
    empty(tmp_path, lambda: False)  # too deep for whoever tidies up after tests


def test_files_that_change_while_they_are_read_break_nothing(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    task = add_task(space, "t")
    names = [task / f"{n}.log" for n in range(8)]
    for path in names:
        path.write_bytes(os.urandom(300_000))
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number, path in enumerate(names):
                if number % 2:
                    path.write_bytes(b"shrunk")
                    path.write_bytes(os.urandom(300_000))
                else:
                    path.unlink()
                    path.write_bytes(os.urandom(100_000))

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for _ in range(10):
            save(space, file, force=True)
            read_archive(file)
    finally:
        stop.set()
        writer.join()
    restore(file, tmp_path / "new")


def test_a_file_that_shrinks_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive.Content(io.BytesIO(b"abc"), 6)
    assert content.read(4) == b"abc\0"
    assert content.read() == b"\0\0"
    assert content.read() == b""
    assert content.digest() == hashlib.sha256(b"abc\0\0\0").hexdigest()


# -- items on their way ------------------------------------------------------------------------


def claim(space: Workspace, *, is_dir: bool, claimed: bool) -> None:
    folder = space.task("t")
    (folder.root if is_dir else folder.input).mkdir(parents=True)
    inode = (space.inbox / "a").stat().st_ino
    (space.inbox / "a").rename(folder.input if is_dir else folder.input / "a")
    with closing(sqlite3.connect(space.database)) as db, db:
        if claimed:
            db.execute(
                "INSERT INTO tasks (id, name, state, created_at, updated_at)"
                " VALUES ('t', 'a', 'queued', '', '')"
            )
        else:
            db.execute("INSERT INTO claims VALUES ('t', x'61', 1, ?, ?, '')", (inode, is_dir))


def move_during(
    monkeypatch: pytest.MonkeyPatch, space: Workspace, *, is_dir: bool, claimed: bool
) -> None:
    """Let the item `a` be claimed right before the rows are saved, `claimed` or still half."""

    def claim_then_copy(store: Path, target: Path) -> None:
        claim(space, is_dir=is_dir, claimed=claimed)
        take_snapshot(store, target)

    monkeypatch.setattr("alluvium_like.surface.backup.take_snapshot", claim_then_copy)


def drop(space: Workspace, *, is_dir: bool) -> None:
    if is_dir:
        (space.inbox / "a").mkdir()
        (space.inbox / "a" / "file").write_text("content")
    else:
        (space.inbox / "a").write_text("content")


def everywhere(workspace: Workspace) -> list[str]:
    found = [p for p in workspace.root.rglob("*") if p.is_file() and p.read_bytes() == b"content"]
    return [str(path.relative_to(workspace.root)) for path in found]


@pytest.mark.parametrize("is_dir", [False, True])
def test_an_item_that_is_claimed_meanwhile_is_there_once_as_its_task(
    space: Workspace, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dir: bool
) -> None:
    drop(space, is_dir=is_dir)
    move_during(monkeypatch, space, is_dir=is_dir, claimed=True)
    save(space, file)
    made = restore(file, tmp_path / "new")
    assert everywhere(made.workspace) == [f"tasks/t/input/{'file' if is_dir else 'a'}"]
    assert made.findings == ()


@pytest.mark.parametrize("is_dir", [False, True])
@pytest.mark.parametrize("seen", [False, True])
def test_an_item_whose_claim_is_half_done_is_there_once_in_the_inbox(
    space: Workspace,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_dir: bool,
    seen: bool,
) -> None:
    """`seen`: it still lay in the inbox when that was saved."""
    drop(space, is_dir=is_dir)
    if seen:
        move_during(monkeypatch, space, is_dir=is_dir, claimed=False)
    else:
        claim(space, is_dir=is_dir, claimed=False)
    save(space, file)
    made = restore(file, tmp_path / "new")
    assert everywhere(made.workspace) == [f"inbox/a{'/file' if is_dir else ''}"]
    assert list(made.workspace.tasks.iterdir()) == []
    with closing(sqlite3.connect(made.workspace.database)) as db:
        assert db.execute("SELECT * FROM claims").fetchall() == []
    assert made.findings == ()


# -- the file itself ---------------------------------------------------------------------------


def test_a_file_is_replaced_only_by_force_and_only_by_a_whole_one(
    space: Workspace, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = MAGIC + b"older"
    file.write_bytes(older)
    with pytest.raises(AlluviumError, match="--force replaces it"):
        save(space, file)
    assert file.read_bytes() == older

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("alluvium_like.surface.backup.take_snapshot", fail)
        with pytest.raises(AlluviumError, match="no backup was made: No space"):
            save(space, file, force=True)
    assert file.read_bytes() == older
    assert sorted(path.name for path in file.parent.iterdir()) == ["backup.tar.gz", "ws"]
    save(space, file, force=True)
    assert read_archive(file).manifest["format"] == 1


def test_a_file_that_appears_meanwhile_is_not_replaced(
    space: Workspace, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def appear(store: Path, target: Path) -> None:
        file.write_text("mine")
        take_snapshot(store, target)

    monkeypatch.setattr("alluvium_like.surface.backup.take_snapshot", appear)
    with pytest.raises(AlluviumError, match="--force replaces it"):
        save(space, file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("place", ["inbox/b", "tasks/b", ".alluvium/b", "nowhere/b", "."])
def test_places_where_a_backup_cannot_lie_are_refused(space: Workspace, place: str) -> None:
    with pytest.raises(UsageError):
        save(space, space.root / place)


def test_a_damaged_store_gives_no_backup(space: Workspace, file: Path) -> None:
    for number in range(30):
        add_task(space, f"t{number}")
    data = bytearray(space.database.read_bytes())
    data[4096 * 4 : 4096 * 12] = b"\xa5" * 4096 * 8
    space.database.write_bytes(data)
    with pytest.raises(AlluviumError):
        save(space, file)
    assert not file.exists()


# -- refusing ----------------------------------------------------------------------------------


def refuse(file: Path, tmp_path: Path) -> str:
    """Restore what must be refused, with one line and nothing left behind; return the line."""
    with pytest.raises(BadArchive) as refused:
        restore(file, tmp_path / "new")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()
    return str(refused.value)


def test_only_a_missing_or_empty_folder_is_restored_into(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    save(space, file)
    new = tmp_path / "new"
    new.mkdir()
    (new / ".hidden").touch()
    with pytest.raises(WorkspaceError, match="is not empty"):
        restore(file, new)
    (new / ".hidden").unlink()
    inode = new.stat().st_ino
    assert restore(file, new).workspace.root == new
    assert new.stat().st_ino == inode, "it may be a mount point, or somebody's current folder"
    with pytest.raises(WorkspaceError, match="is not empty"):
        restore(file, space.root)


def means_the_same(file: Path, whole: bytes) -> bool:
    """Tell whether a flipped bit was one of those that mean nothing to gzip."""
    try:
        return gzip.decompress(file.read_bytes()) == gzip.decompress(whole)
    except (OSError, EOFError, zlib.error):
        return False


def test_any_flipped_byte_or_missing_end_is_found(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    (add_task(space, "t") / "file").write_bytes(os.urandom(2000))
    save(space, file)
    whole = file.read_bytes()
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refuse(file, tmp_path)
    for at in range(20, len(whole), len(whole) // 40):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        if not means_the_same(file, whole):
            refuse(file, tmp_path)
    file.write_text("no archive at all")
    refuse(file, tmp_path)


def rewrite(
    file: Path,
    change: dict[str, bytes] | None = None,
    more: tuple[tarfile.TarInfo, ...] = (),
    *,
    sums: bool = True,
) -> None:
    """Write an archive anew, as somebody would who can make the hashes fit."""
    parts: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(file) as old:
        for info in old:
            stream = old.extractfile(info) if info.isreg() else None
            data = stream.read() if stream else b""
            parts.append((info, (change or {}).get(info.name, data)))
    listed = json.loads(parts.pop()[1])
    parts += [(info, b"x" * info.size) for info in more]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as new:
        for info, data in parts:
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
            text = info.linkname.encode() if not info.isreg() else data
            if sums:
                listed["members"][info.name] = hashlib.sha256(text).hexdigest()
        last = tarfile.TarInfo("checksums.json")
        text = json.dumps(listed).encode()
        last.size = len(text)
        new.addfile(last, io.BytesIO(text))
    file.write_bytes(gzip.compress(buffer.getvalue()))


def test_rewriting_alone_is_no_reason_to_refuse(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    save(space, file)
    rewrite(file)
    restore(file, tmp_path / "new")


def test_contents_that_are_not_as_they_were_saved_are_refused(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    save(space, file)
    rewrite(file, {"prompt.md": b"something else"}, sums=False)
    assert "'prompt.md' is not as it was saved" in refuse(file, tmp_path)
    save(space, file, force=True)
    rewrite(file, more=(member("inbox/planted"),), sums=False)
    assert "'inbox/planted' is not as it was saved" in refuse(file, tmp_path)


def test_a_newer_format_is_refused_before_anything_else(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    save(space, file)
    manifest = json.dumps({"format": 2, "program": "9.1"}).encode()
    rewrite(file, {"manifest.json": manifest}, (member("../later"),))
    assert "newer version (format 2 of alluvium-like 9.1" in refuse(file, tmp_path)


def test_a_store_of_a_newer_version_is_refused(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    save(space, file)
    copy = tmp_path / "copy"
    with tarfile.open(file) as old:
        stream = old.extractfile("alluvium.db")
        assert stream
        copy.write_bytes(stream.read())
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute("INSERT INTO schema_migrations VALUES (9999, 'later', '')")
    rewrite(file, {"alluvium.db": copy.read_bytes()})
    with pytest.raises(AlluviumError, match="made by a newer version"):
        restore(file, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 3 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "planted",
    [
        (member("/etc/planted"),),
        (member("../planted"),),
        (member("inbox/../../planted"),),
        (member("inbox/./planted"),),
        (member("inbox//planted"),),
        (member("planted"),),
        (member(".alluvium/planted"),),
        (member("repo/.git/hooks/planted"),),
        (member("worktrees", tarfile.DIRTYPE),),
        (member("inbox/missing/planted"),),
        (member("inbox/file"), member("inbox/file")),
        (member("tasks/t/device", tarfile.CHRTYPE),),
        (member("tasks/t/fifo", tarfile.FIFOTYPE),),
        (member("tasks/t/hard", tarfile.LNKTYPE, "config.toml"),),
        (member("tasks/t/hard", tarfile.LNKTYPE, "/etc/passwd"),),
        (member("tasks/t/nothing", tarfile.SYMTYPE, ""),),
        (member("tasks/linked", tarfile.SYMTYPE, "/tmp"),),
        (member("quarantine/linked", tarfile.SYMTYPE, "/tmp"),),
        (member("inbox/out", tarfile.SYMTYPE, "/tmp"), member("inbox/out/planted")),
        (member("inbox/out", tarfile.SYMTYPE, "/tmp"), member("inbox/out", tarfile.DIRTYPE)),
        (member("inbox", tarfile.SYMTYPE, "/tmp"),),
        (member("config.toml", tarfile.SYMTYPE, "/tmp"),),
        (member("alluvium.db"),),
    ],
)
def test_what_leads_out_is_refused_before_anything_is_written(
    space: Workspace, file: Path, tmp_path: Path, planted: tuple[tarfile.TarInfo, ...]
) -> None:
    add_task(space, "t")
    save(space, file)
    rewrite(file, more=planted)
    refuse(file, tmp_path)


@pytest.fixture(autouse=True)
def nothing_planted() -> Iterator[None]:
    yield
    assert not Path("/tmp/planted").exists()


def test_a_full_disk_while_restoring_leaves_nothing(
    space: Workspace, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = add_task(space, "t") / "locked"
    locked.mkdir()
    (locked / "file").touch()
    locked.chmod(0o555)
    save(space, file)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alluvium_like.surface.restore.sync_file_system", fail)
    with pytest.raises(AlluviumError, match="new: nothing was restored: No space"):
        restore(file, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


# -- the store ---------------------------------------------------------------------------------


def test_the_rows_are_of_one_moment_while_others_write(space: Workspace, tmp_path: Path) -> None:
    """Each transaction writes two rows; a copy never holds one only, nor misses what was before."""
    stop = threading.Event()
    committed = 0

    def write() -> None:
        nonlocal committed
        with closing(sqlite3.connect(space.database, isolation_level=None)) as db:
            number = 0
            while not stop.is_set():
                number += 1
                db.execute("BEGIN IMMEDIATE")
                for name in ("left", "right"):
                    db.execute(
                        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE"
                        " SET value = excluded.value",
                        (name, str(number) * 500),
                    )
                db.execute("COMMIT")
                committed = number

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(20):
            copy = tmp_path / f"{number}.db"
            least = committed
            take_snapshot(space.database, copy)
            with closing(sqlite3.connect(copy)) as db:
                facts = dict(db.execute("SELECT key, value FROM meta"))
                left = facts.get("left", "")
                assert left == facts.get("right", "")
                assert int(left[: len(left) // 500] or 0) >= least
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        stop.set()
        writer.join()


def test_a_restored_store_is_another_workspace_and_knows_no_process(
    space: Workspace, file: Path, tmp_path: Path
) -> None:
    """Else a start beside the old workspace would end the agents that run there."""
    add_task(space, "t")
    with closing(sqlite3.connect(space.database)) as db, db:
        db.execute("UPDATE tasks SET state = 'running', attempt = 1")
        db.execute("INSERT INTO attempts (task_id, number, pid, started, boot_id, started_at)"
            " VALUES ('t', 1, 4711, 'then', 'boot', '')")  # fmt: skip
    save(space, file)
    made = restore(file, tmp_path / "new")
    assert made.findings == ()

    def facts(workspace: Workspace) -> tuple[str, tuple[object, ...]]:
        with closing(sqlite3.connect(workspace.database)) as db:
            (own,) = db.execute("SELECT value FROM meta WHERE key = 'workspace_id'").fetchone()
            return own, db.execute("SELECT pid, started, boot_id FROM attempts").fetchone()

    old, new = facts(space), facts(made.workspace)
    assert old[0] != new[0]
    assert (old[1], new[1]) == ((4711, "then", "boot"), (None, "", ""))


def test_a_workspace_whose_daemon_never_ran_is_saved_too(file: Path, tmp_path: Path) -> None:
    initialise(tmp_path / "ws", repo=None, agent=None)
    space = Workspace.at(tmp_path / "ws")
    drop(space, is_dir=True)
    shutil.rmtree(space.quarantine)
    save(space, file)
    made: Restored = restore(file, tmp_path / "new")
    assert everywhere(made.workspace) == ["inbox/a/file"]
    assert made.findings == ()
