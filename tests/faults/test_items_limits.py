"""What is too much for one item: found out early, set aside with the name of the limit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile_items import TERA
from test_intake_scale import opened

from alluvium_like.config import Config
from alluvium_like.config.tables import Safety
from alluvium_like.deletion import empty
from alluvium_like.guarded import open_folder
from alluvium_like.inbox.look import Ignore, Limits, examine, list_items
from alluvium_like.stages.intake import Intake
from alluvium_like.surface import archive
from alluvium_like.surface.quarantine import entries, release

MANY = 100_000


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        os.mknod(folder / f"{number:06}")


@pytest.fixture
def emptied(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files are not left for pytest to delete."""
    yield tmp_path
    empty(tmp_path, lambda: False)


async def test_a_hundred_thousand_files_are_set_aside_and_claimed_once_the_limit_allows_them(
    emptied: Path,
) -> None:
    async with opened(emptied) as parts:
        space, stage = parts.workspace, Intake(parts, ignore_settle=True)
        fill(space.inbox / "many", MANY)
        await stage.look(set())
        (entry,) = entries(space)
        assert entry.reason == (
            "many holds more than the 50_000 files and folders that safety.max_item_files "
            "in config.toml allows"
        )
        parts.settings.current = Config(safety=Safety(max_item_files=MANY))  # as a reload does
        release(space, entry)
        await stage.look(set())
        (task,) = space.tasks.iterdir()
        assert len(os.listdir(task / "input")) == MANY
        assert not entries(space)
        assert not list(space.inbox.iterdir())


async def test_a_sparse_terabyte_counts_as_large_as_it_says_it_is(emptied: Path) -> None:
    async with opened(emptied) as parts:
        space, stage = parts.workspace, Intake(parts, ignore_settle=True)
        for giant in (space.inbox / "giant", space.inbox / "pack" / "deep" / "giant"):
            giant.parent.mkdir(parents=True, exist_ok=True)
            giant.touch()
            os.truncate(giant, TERA)
        await stage.look(set())
        found = entries(space)
        allowed = "the 10_000_000_000 bytes that safety.max_item_bytes in config.toml allows"
        assert {entry.reason for entry in found} == {
            f"{name} holds more than {allowed}" for name in ("giant", "pack")
        }
        parts.settings.current = Config(safety=Safety(max_item_bytes=TERA))
        for entry in found:
            release(space, entry)
        await stage.look(set())
        assert len(list(space.tasks.iterdir())) == 2


@contextmanager
def counted_listings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note every entry that a listing yields."""
    real = os.scandir
    seen: list[str] = []

    @contextmanager
    def scandir(folder: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        def note() -> Iterator[os.DirEntry[str]]:
            for entry in listing:
                seen.append(entry.name)
                yield entry

        with real(folder) as listing:
            yield note()

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        yield seen


@pytest.mark.parametrize(
    ("limits", "allowed"), [(Limits(100, 10**9), "100 files"), (Limits(10**9, 100), "100 bytes")]
)
def test_the_walk_ends_where_a_limit_is_passed_and_says_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, allowed: str
) -> None:
    for folder in ("wide", "z1", "z2"):
        fill(tmp_path / "item" / folder, 300)
        (tmp_path / "item" / folder / "000000").write_bytes(b"x" * 101)
    for number in range(100):
        (tmp_path / "item" / "wide" / f"d{number}").mkdir()
    (item,) = list_items(tmp_path, Ignore((), ()))
    with counted_listings(monkeypatch) as seen:
        looks = [examine(tmp_path, item, limits) for _ in range(2)]
    assert len(seen) <= 2 * 410, "one folder, and nothing below it"
    assert allowed in looks[0].obstacle
    assert looks[0].fingerprint == looks[1].fingerprint is not None
    (tmp_path / "item" / "new").touch()
    assert examine(tmp_path, item, limits).fingerprint != looks[0].fingerprint


@pytest.mark.parametrize("count", [9, 10, 11])
def test_as_much_as_the_limit_allows_is_taken(tmp_path: Path, count: int) -> None:
    fill(tmp_path / "item", count)
    (tmp_path / "item" / "000000").write_bytes(b"x" * count)
    (item,) = list_items(tmp_path, Ignore((), ()))
    for limits in (Limits(10, 100), Limits(100, 10)):
        assert bool(examine(tmp_path, item, limits).obstacle) == (count > 10)


async def test_a_reason_is_short_however_long_the_path_is(emptied: Path) -> None:
    """Its note says of which of two files it is the note: it has to be read whole."""
    async with opened(emptied) as parts:
        item = parts.workspace.inbox / "reason.txt"
        pipe = item.joinpath(*["\udcff" * 255] * 14, "pipe")
        pipe.parent.mkdir(parents=True)
        os.mkfifo(pipe)
        await Intake(parts, ignore_settle=True).look(set())
        (entry,) = entries(parts.workspace)
        assert entry.items == ("reason.txt",)
        assert entry.reason.endswith("is a FIFO")


def test_a_backup_does_not_write_out_the_holes_of_a_giant_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_LARGEST_HOLES", 1_000_000)
    for name, size in (("giant", 2_000_000), ("small", 1_000_000)):
        (tmp_path / "from" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "from" / name).touch()
        os.truncate(tmp_path / "from" / name, size)
    with (tmp_path / "file").open("xb") as stream, archive.Writer(stream) as writer:
        with open_folder(tmp_path) as folder:
            writer.add_entry(folder, "from", "from")
        writer.finish([])
        assert writer.skipped == ["from/giant: almost all of its 2_000_000 bytes are holes"]
