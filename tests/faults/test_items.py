"""Whatever is dropped ends whole in one place, and nothing outside the inbox is touched."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from hostile_items import (
    TERA,
    TOP,
    File,
    Folder,
    HardLink,
    Link,
    Outside,
    Picture,
    Recipe,
    Repository,
    Sparse,
    Special,
    make,
    names,
    picture,
    recipes,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_intake_scale import opened

import alluvium_like
from alluvium_like.deletion import empty
from alluvium_like.lifecycle import Condition
from alluvium_like.stages.dispatch.prepare import _inventory
from alluvium_like.stages.intake import Intake
from alluvium_like.stages.parts import Parts
from alluvium_like.surface.quarantine import entries, release
from alluvium_like.task import display_name

NOBODY = 65534

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux's file systems take any bytes as a name"
)

ITEM = File(b"please", 0o644, None, attribute=False)
EVERYTHING: Mapping[bytes, Recipe] = {
    b"outside": Link("{outside}"),
    b"zero": Link("/dev/zero"),
    b"shared": HardLink(),
    b"\x1b[31mred\n\xff": Folder({b".git": ITEM, b"sub": Repository()}, 0o755, -1),
    b".agent": Folder({b"-rf": ITEM}, 0o755, 15_032_385_535),
    b"input": File(b"#!/bin/sh\n", 0o6755, 0, attribute=True),
}


@pytest.mark.parametrize("user", [os.geteuid(), NOBODY])
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(dropped=st.dictionaries(names(), recipes(), min_size=1, max_size=4))
@example(dropped={b"pack": Folder(EVERYTHING, 0o755, None), b"giant": Sparse(TERA)})
@example(dropped={b"locked": Folder({b"in": ITEM}, 0o555, None), b"blind": Folder({}, 0, 0)})
@example(dropped={b"reason.txt": Folder({b"\xff" * 255: Special(stat.S_IFIFO)}, 0o755, None)})
@example(dropped={b"note.md": ITEM, b"NOTE.MD": ITEM, b"\xffnote.md": ITEM})
@example(dropped={b"x": Folder({b"y": Folder({b"z": ITEM}, 0o600, 1)}, 0o755, None)})
def test_every_item_ends_whole_in_one_place(user: int, dropped: dict[bytes, Recipe]) -> None:
    if os.geteuid() not in (0, user):
        pytest.skip("only root may become another user")
    above = Path(alluvium_like.__file__).resolve().parents
    if user != os.geteuid() and not all(path.stat().st_mode & stat.S_IXOTH for path in above):
        pytest.skip("this checkout lies in a folder that is closed to other users")
    with bed(user) as (root, outside):
        anyio.run(drop_and_look, root, outside, dropped)


async def test_the_same_name_again_is_another_task(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        for text in ("first", "second"):
            (parts.workspace.inbox / "note.md").write_text(text)
            await Intake(parts, ignore_settle=True).look(set())
        found = [path.read_text() for path in parts.workspace.tasks.glob("*/input/note.md")]
        assert sorted(found) == ["first", "second"]


@contextmanager
def bed(user: int) -> Iterator[tuple[Path, Outside]]:
    """A folder of `user`'s own, whose rights count inside; it goes at the end whatever is in it."""
    before = os.geteuid()
    root = Path(tempfile.mkdtemp(dir=None if user == before else "/tmp"))  # which all may enter
    if before == 0:
        os.chown(root, user, -1)
    os.seteuid(user)
    try:
        (root / "tree").mkdir()
        outside = Outside(root / "tree" / "outside")
        outside.make()
        yield root / "tree", outside
    finally:
        os.seteuid(before)
        empty(root, lambda: False)
        root.rmdir()


@contextmanager
def all_rights() -> Iterator[None]:
    """See everything, where that is possible, to compare it."""
    before = os.geteuid()
    os.seteuid(os.getuid())
    try:
        yield
    finally:
        os.seteuid(before)


async def drop_and_look(root: Path, outside: Outside, dropped: dict[bytes, Recipe]) -> None:
    async with opened(root) as parts:
        inbox = parts.workspace.inbox
        for name, recipe in dropped.items():
            make(inbox / os.fsdecode(name), recipe, outside)
        with all_rights():
            before = {name: picture(inbox / os.fsdecode(name)) for name in dropped}
            theirs = outside.picture()
        stage = Intake(parts, ignore_settle=True)
        for _ in range(2):
            await stage.look(set())
            await stage._tell_stuck()
            await check(parts, dropped, before)
            for entry in entries(parts.workspace):
                release(parts.workspace, entry)
        with all_rights():
            assert not outside.was_read()
            assert outside.picture() == theirs


async def check(parts: Parts, dropped: dict[bytes, Recipe], before: dict[bytes, Picture]) -> None:
    """Look for every item in all places: it is where it belongs, as it was, and nowhere else."""
    with all_rights():
        found = {path: (place, picture(path)) for path, place in places(parts, before)}
    assert len(found) == len(dropped), "nothing is there twice, and nothing else is there"
    told = "".join((await parts.store.conditions(Condition.INTAKE)).values())
    tasks = {row["id"]: row["name"] for row in await parts.store.rows("list_tasks")}
    for name, recipe in dropped.items():
        (where,) = [
            path
            for path, (_, now) in found.items()
            if now == before[name] and path.name in (os.fsdecode(name), "input")
        ]
        place = found[where][0]
        assert place == belongs(name, recipe), told
        assert place != "stuck" or " is stuck: " in told
        if place == "task":
            (task,) = set(tasks) & set(where.parts)
            assert tasks.pop(task) == display_name(name)
            check_inventory(parts.workspace.task(task).input)
    assert not tasks
    assert not await parts.store.claims()


def check_inventory(folder: Path) -> None:
    """Whatever is no folder is told to the agent by a name that is safe to show."""
    inside = [path for path, facts in picture(folder).items() if not stat.S_ISDIR(facts.mode)]
    listed = _inventory(folder)
    assert sorted(listed) == sorted(display_name(os.fsencode(path)) for path in inside)
    assert all(name.isprintable() for name in listed)


def places(parts: Parts, before: dict[bytes, Picture]) -> Iterator[tuple[Path, str]]:
    """Yield every path that holds an item, and which kind of place that is."""
    space, dropped_inodes = parts.workspace, {seen[TOP].inode for seen in before.values()}
    for path in space.inbox.iterdir():
        yield path, "left" if left(os.fsencode(path.name)) else "stuck"
    for task in space.tasks.iterdir():
        assert os.listdir(task) == ["input"]
        folder = task / "input"
        if folder.stat().st_ino in dropped_inodes:
            yield folder, "task"
        else:
            yield from ((path, "task") for path in folder.iterdir())
    for entry in entries(space):
        assert entry.reason
        assert entry.reason.isprintable()
        yield from ((entry.path / item, "quarantine") for item in entry.items)


def belongs(name: bytes, recipe: Recipe) -> str:
    """Say where an item has to end: what the documentation promises, once more."""
    if left(name):
        return "left"
    moves = os.geteuid() == 0 or not isinstance(recipe, Folder) or recipe.mode & stat.S_IWUSR
    if not moves:
        return "stuck"
    return "quarantine" if is_unclaimable(recipe) else "task"


def left(name: bytes) -> bool:
    return name.startswith(b".") or name.endswith((b".tmp", b".part", b".partial", b".crdownload"))


def is_unclaimable(recipe: Recipe) -> bool:
    match recipe:
        case Special():
            return True
        case Sparse(size):
            return size == TERA
        case Folder(inside, mode):
            needed = stat.S_IRUSR | (stat.S_IXUSR if inside else 0)
            blind = os.geteuid() != 0 and mode & needed != needed
            return blind or any(map(is_unclaimable, inside.values()))
    return False
