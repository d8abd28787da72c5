"""A workshop is taken away whatever rights its agent left; what cannot be moved harms nobody."""

import os
from pathlib import Path

import pytest
from warm_bed import WHO, Place, git_says_clean, look, only_owners_rights

from alluvium_like.deletion import empty
from alluvium_like.gitrepo import berth as berths
from alluvium_like.gitrepo import workshop as workshops
from alluvium_like.gitrepo.warm import Limits
from alluvium_like.gitrepo.workshop import Workshop, set_aside, set_aside_all
from alluvium_like.stages.parts import Parts
from alluvium_like.workspace import Workspace

NONE = Limits(0, 0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("rights", [0o555, 0o000])
async def test_locked_roots_are_taken_away(
    place: Place, monkeypatch: pytest.MonkeyPatch, rights: int, warm: bool
) -> None:
    only_owners_rights(monkeypatch)
    if not warm:
        place.limits = NONE
    fresh = await place.fresh()
    for _ in range(3):
        workshop = await place.take("one")
        assert look(workshop.tree) == fresh
        assert git_says_clean(workshop)
        for folder in (workshop.tree, workshop.git_dir):
            folder.chmod(rights)
        await place.pool.give_back(workshop)
        assert not names(place.root / "worktrees")
        assert not names(place.root / "workshops")
    assert len(place.pool._pool) == warm, "the files serve the next"
    empty(place.root / "trash", lambda: False)
    assert not names(place.root / "trash")


async def test_locked_roots_are_taken_away_at_the_next_start(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_owners_rights(monkeypatch)
    workshop = await place.take("one")
    workshop.tree.chmod(0o555)
    workshop.git_dir.chmod(0)
    pool = place.root / "warm"
    (pool / "1").chmod(0o555)
    for folder in ("worktrees", "workshops"):
        set_aside_all(place.root / folder, place.root / "trash")
        assert not names(place.root / folder)
    place.pool = place.open()
    await place.pool.reopen()
    assert not names(pool)


@pytest.mark.parametrize("stuck", ["tree", "git_dir", "index", "berth"])
async def test_what_cannot_be_moved_at_all_stays_and_raises_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    workshop = await place.take("one")
    other = await place.take("two")
    berth = place.pool._out[workshop.tree]
    immovable = berth.folder if stuck == "berth" else getattr(workshop, stuck)
    real = os.rename

    def refuse(source: Path, target: Path) -> None:
        if source in (immovable, workshop.tree):
            raise PermissionError(1, "Operation not permitted", str(source))
        real(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    await place.pool.give_back(workshop)
    assert berth.lost
    assert immovable.exists()
    places = (workshop.tree, workshop.git_dir, workshop.index)
    assert {path for path in places if path.exists()} <= {immovable, workshop.tree}
    for folder in ("worktrees", "workshops"):
        set_aside_all(place.root / folder, place.root / "trash")
    assert immovable.exists()
    assert not other.tree.exists()
    monkeypatch.undo()
    assert git_says_clean(await place.take("one"))


async def test_at_the_start_what_cannot_be_moved_holds_up_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = place.root / "warm"
    for name in ("1", "2"):
        (pool / name).mkdir()

    def refuse_first(path: Path, trash: Path) -> None:
        if path.name == "1":
            raise OSError(16, "Device or resource busy", str(path))
        path.rename(trash / path.name)

    monkeypatch.setattr(berths, "to_trash", refuse_first)
    monkeypatch.setattr(workshops, "to_trash", refuse_first)
    await place.pool.reopen()
    assert names(pool) == ["1"]
    assert not place.pool._pool
    (pool / "3").mkdir()
    set_aside_all(pool, place.root / "trash")
    assert names(pool) == ["1"]


async def test_a_full_disk_costs_the_trash_too(place: Place) -> None:
    place.limits = NONE
    (place.root / "trash" / "big").mkdir()
    place.git.full.append("No space left on device")
    await place.take("one")
    assert "big" not in names(place.root / "trash")


async def test_each_test_has_a_folder_of_its_own_that_leaves_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_owners_rights(monkeypatch)
    space = Workspace(place.root)
    space.slots.mkdir(parents=True)

    def slot(name: str) -> Workshop:
        shape: Parts = Parts.__new__(Parts)
        object.__setattr__(shape, "workspace", space)
        return shape.slot(name)

    async def take(workshop: Workshop) -> Workshop:
        await place.pool.take(workshop, place.source(), commit=place.first, branch=None, user=WHO)
        return workshop

    first = await take(slot("trial-1"))
    outside = first.tree.parent
    (outside / "conftest.py").write_text("planted")
    first.tree.chmod(0o555)
    outside.chmod(0o555)
    await place.pool.give_back(first)
    assert not names(space.slots)
    second = await take(slot("trial-2"))
    assert names(second.tree.parent) == ["repo.git", "repo.index", "tree"]
    set_aside(second, place.root / "trash")
    assert not names(space.slots)
