"""The pool of warm worktrees: its limits, mishaps, restarts, and the stage that tends it."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import anyio.lowlevel
import pytest
from warm_bed import (
    PLENTY,
    CountingGit,
    Place,
    git_says_clean,
    ignored,
    look,
    modes,
    same_second,
    swapped,
)

from alluvium_like.config import Config
from alluvium_like.config.tables import Safety
from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo import berth as berths
from alluvium_like.gitrepo.cleaning import Interrupted, read_index
from alluvium_like.gitrepo.warm import Limits
from alluvium_like.stages.janitor import Janitor
from alluvium_like.stages.parts import Parts, Runs, Wakes
from alluvium_like.stages.warmer import Warmer
from alluvium_like.task import Parked
from alluvium_like.wake import Wake
from alluvium_like.workspace import Workspace


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- limits and mishaps ------------------------------------------------------------------------


async def test_with_none_wanted_everything_is_as_without_a_pool(place: Place) -> None:
    place.limits = Limits(0, PLENTY)
    await place.tend(wanted=0)
    workshop = await place.take("one")
    assert look(workshop.tree) == await place.fresh()
    await place.pool.give_back(workshop)
    assert not any((place.root / "warm").iterdir())
    assert not workshop.tree.exists()
    assert not workshop.git_dir.exists()


async def test_no_more_are_kept_than_there_may_be(place: Place) -> None:
    workshops = [await place.take(f"t{number}") for number in range(6)]
    for workshop in workshops:
        await place.pool.give_back(workshop)
    assert len(list((place.root / "warm").iterdir())) == 4
    place.limits = Limits(1, PLENTY)
    await place.tend()
    assert len(list((place.root / "warm").iterdir())) == 1
    place.limits = Limits(0, PLENTY)
    await place.tend()
    assert not any((place.root / "warm").iterdir())


async def test_the_bytes_of_all_together_are_limited(place: Place) -> None:
    await place.tend(wanted=1)
    size = place.pool._usual_size
    index = read_index(place.root / "warm" / "1" / "index", "sha1")
    assert (
        size
        == index.size
        == sum((place.owner / os.fsdecode(name)).lstat().st_size for name in index.files)
    )
    place.limits = Limits(4, 2 * size)
    await place.tend(wanted=4)
    assert len(list((place.root / "warm").iterdir())) == 2
    place.limits = Limits(4, size - 1)
    await place.tend(wanted=4)
    assert not any((place.root / "warm").iterdir())
    assert not place.pool.due(place.first, 4), "nor is one made over and over to be thrown away"


async def test_a_full_disk_is_relieved_of_the_warm_trees(place: Place) -> None:
    workshops = [await place.take(f"t{number}") for number in range(3)]
    for workshop in workshops:
        modes(workshop.tree)
        await place.pool.give_back(workshop)
    place.git.full.extend(["No space left on device"] * 2)  # for the warm one, then a cold one
    workshop = await place.take("next")
    assert look(workshop.tree) == await place.fresh()
    await place.pool.give_back(workshop)


async def test_another_failure_of_the_checkout_is_told(place: Place) -> None:
    await place.pool.give_back(await place.take("one"))
    with pytest.raises(GitFailed):
        await place.take("two", "f" * 40)


async def test_what_cannot_be_made_in_the_background_is_left_for_later(place: Place) -> None:
    place.git.full.append("No space left on device")
    assert await place.pool.tend(place.source(), 2, lambda: False)
    assert not place.pool.due(place.first, 2)
    assert not any((place.root / "warm").iterdir())
    await place.take("one")


async def test_a_tree_that_was_replaced_is_not_kept(place: Place) -> None:
    for deed in (
        lambda tree: tree.symlink_to(place.owner),
        lambda tree: tree.write_text("x"),
        lambda tree: None,
        lambda tree: shutil.copytree(place.owner, tree),
    ):
        workshop = await place.take("one")
        shutil.rmtree(workshop.tree)
        deed(workshop.tree)
        await place.pool.give_back(workshop)
        workshop = await place.take("two")
        assert look(workshop.tree) == await place.fresh()
        await place.pool.give_back(workshop)
    assert (place.owner / "top").exists()


async def test_what_is_left_in_the_place_of_a_task_is_thrown_away(place: Place) -> None:
    first = await place.take("one")
    (first.tree / "left").write_text("x")
    again = await place.take("one")
    assert look(again.tree) == await place.fresh()
    assert len(list((place.root / "warm").iterdir())) == 1


# -- restart -----------------------------------------------------------------------------------


async def test_after_a_restart_trees_are_cleaned_before_anybody_gets_them(place: Place) -> None:
    await place.tend(wanted=1)
    tree = place.root / "warm" / "1" / "tree"
    kept = (tree / "a" / "one").stat().st_ino
    ignored(tree)
    same_second(tree)
    (tree.parent / "index.lock").write_text("half")
    place.pool = place.open()
    await place.pool.reopen()
    workshop = await place.take("one")
    assert (workshop.tree / "a" / "one").stat().st_ino == kept
    assert look(workshop.tree) == await place.fresh()
    assert git_says_clean(workshop)


@pytest.mark.parametrize("deed", ["marker", "index", "tree", "reboot", "garbage", "cut", "file"])
async def test_after_a_restart_what_is_not_whole_goes(
    place: Place, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.tend(wanted=1)
    folder = place.root / "warm" / "1"
    match deed:
        case "marker" | "index":
            (folder / deed).unlink()
        case "tree":
            shutil.rmtree(folder / "tree")
            (folder / "tree").symlink_to(place.owner)
        case "reboot":
            monkeypatch.setattr(berths, "boot_id", lambda: "another")
        case "garbage":
            (folder / "index").write_bytes(b"DIRC\0\0\0\x04")
        case "cut":
            (folder / "index").write_bytes((folder / "index").read_bytes()[:300])
        case _:
            shutil.rmtree(folder)
            folder.write_text("x")
    (folder.parent / ".probe").mkdir()
    place.pool = place.open()
    await place.pool.reopen()
    found_when_cleaned = deed in ("index", "garbage", "cut")
    assert len(place.pool._pool) == found_when_cleaned
    workshop = await place.take("one")
    assert look(workshop.tree) == await place.fresh()
    assert (place.owner / "top").exists()
    await place.pool.give_back(workshop)
    assert [path.name for path in (place.root / "warm").iterdir()] == ["1"]


async def test_a_checkout_that_was_cut_off_is_made_good(place: Place) -> None:
    """Files and index of two commits, a lock that nobody holds, the marker of the first."""
    await place.tend(wanted=1)
    (place.owner / "top").write_text("second")
    (place.owner / "a" / "two").write_text("second")
    second = place.commit("second")
    folder = place.root / "warm" / "1"
    (folder / "tree" / "top").unlink()
    (folder / "tree" / "top").write_text("second")
    (folder / "index.lock").write_text("half")
    place.pool = place.open()
    await place.pool.reopen()
    workshop = await place.take("one", second)
    assert look(workshop.tree) == await place.fresh(second)


async def test_cleaning_can_be_interrupted_and_begun_anew(place: Place) -> None:
    workshop = await place.take("one")
    ignored(workshop.tree)
    swapped(workshop.tree)
    await place.pool.give_back(workshop)
    for looks in range(4):
        answers = iter([False] * looks + [True])
        with pytest.raises(Interrupted):
            await place.pool.tend(place.source(), 0, lambda it=answers: next(it))  # type: ignore[misc]
    workshop = await place.take("two")
    assert look(workshop.tree) == await place.fresh()


async def test_a_cancelled_checkout_in_the_background_is_begun_anew(place: Place) -> None:
    await place.tend(wanted=1)
    (place.owner / "top").write_text("second")
    second = place.commit("second")
    for delay in (0, 0.001, 0.002, 0.004, 0.008):
        with anyio.move_on_after(delay):
            await place.pool.tend(place.source(second), 1, lambda: False)
    workshop = await place.take("one", second)
    assert look(workshop.tree) == await place.fresh(second)
    assert git_says_clean(workshop)


async def test_a_tree_whose_taker_was_cancelled_is_in_the_pool_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would lie there until the next start, and nobody would count it."""
    await place.tend(wanted=1)
    (place.owner / "top").write_text("second")
    second = place.commit("second")
    with monkeypatch.context() as patched, anyio.CancelScope() as scope:

        async def cut_off(*args: object, **options: object) -> None:
            scope.cancel()
            await anyio.sleep_forever()

        patched.setattr(place.pool, "_git", SimpleNamespace(run=cut_off))
        await place.take("one", second)
    assert scope.cancelled_caught
    assert [berth.clean for berth in place.pool._pool] == [False]
    workshop = await place.take("two", second)
    assert look(workshop.tree) == await place.fresh(second)
    assert len(list((place.root / "warm").iterdir())) == 1


async def test_a_cancelled_taker_has_the_tree_or_the_pool_has_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.tend(wanted=1)
    with monkeypatch.context() as patched, anyio.CancelScope() as scope:

        async def at_last(*_: object) -> None:
            scope.cancel()

        patched.setattr(place.pool, "_bring", at_last)
        await place.take("one")
    await place.pool.give_back(place.workshop("one"))
    assert len(place.pool._pool) == len(list((place.root / "warm").iterdir())) == 1


async def test_a_tree_that_was_waited_for_in_vain_stays_in_the_pool(place: Place) -> None:
    await place.tend(wanted=1)
    (berth,) = place.pool._pool
    async with berth.lock, anyio.create_task_group() as tasks:
        tasks.start_soon(place.take, "one")
        await anyio.wait_all_tasks_blocked()
        assert berth.lock.statistics().tasks_waiting == 1
        tasks.cancel_scope.cancel()
    assert place.pool._pool == [berth]
    place.checkouts()
    await place.take("two")
    assert place.checkouts() == 0


# -- the stages --------------------------------------------------------------------------------


class Signal(Wake):
    """A wake that tells when its stage has looked and waits again."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = anyio.Event()

    def set(self) -> None:
        self.waiting = anyio.Event()
        super().set()

    async def wait(self, at_most: float) -> bool:
        self.waiting.set()
        return await super().wait(at_most)


class Stage:
    """What the stages are given of the daemon; `waits` is a task that wants a slot."""

    def __init__(self, place: Place) -> None:
        self.waits: object | None = None
        self.seen = place.first
        self.warmer, self.janitor = Signal(), Signal()
        self.runs, self.wakes = Runs(), Wakes(warmer=self.warmer, janitor=self.janitor)
        safety = Safety(max_workers=2, warm_worktrees=3)
        fake = SimpleNamespace(
            health=SimpleNamespace(tell=lambda error: False, is_well=True),
            warm=place.pool,
            store=SimpleNamespace(next_runnable=self._next_runnable, parked=self._parked),
            integration=SimpleNamespace(
                seen=self.seen,
                source=lambda: place.source(self.seen),
                tidy=anyio.lowlevel.checkpoint,
            ),
            settings=SimpleNamespace(current=Config(safety=safety)),
            runs=self.runs,
            wakes=self.wakes,
            git=place.git,
            workspace=Workspace(place.root),
        )
        self.parts = cast(Parts, fake)

    async def _next_runnable(self, now: str, too_far: str, held: list[str]) -> object | None:
        return self.waits

    async def _parked(self) -> list[Parked]:
        return []

    def move(self, commit: str) -> None:
        self.seen = commit
        self.parts.integration.seen = commit


def ready_at(place: Place) -> list[str]:
    return [berth.commit for berth in place.pool._pool if berth.clean]


async def test_the_warmer_makes_trees_and_follows_the_base_when_woken(place: Place) -> None:
    stage = Stage(place)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Warmer(stage.parts).run)
        await stage.warmer.waiting.wait()
        assert ready_at(place) == [place.first] * 2
        (place.owner / "top").write_text("second")
        second = place.commit("second")
        stage.move(second)
        stage.wakes.idle.set()  # as the lane does at the end of each look
        await stage.warmer.waiting.wait()
        assert ready_at(place) == [second] * 2
        workshop = await place.take("one", second)
        await place.pool.give_back(workshop)
        stage.wakes.warmer.set()
        await stage.warmer.waiting.wait()
        assert ready_at(place) == [second] * 2
        stage.runs.stop_all(now=False)


async def test_the_warmer_holds_off_while_a_task_waits_for_a_slot(place: Place) -> None:
    stage = Stage(place)
    stage.waits = object()
    warmer = Warmer(stage.parts)
    await warmer._look()
    assert place.checkouts() == 0
    stage.waits = None
    await warmer._look()
    assert place.checkouts() == 2
    assert not await place.pool.tend(place.source(), 2, lambda: False)


async def test_the_warmer_stops_in_the_middle_of_a_checkout(place: Place) -> None:
    stage = Stage(place)
    begun = anyio.Event()

    async def for_ever(*args: object, **options: object) -> None:
        begun.set()
        await anyio.sleep_forever()

    place.pool._git = cast(CountingGit, SimpleNamespace(run=for_ever))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Warmer(stage.parts).run)
            await begun.wait()
            stage.runs.stop_all(now=False)


async def test_the_warmer_stops_in_the_middle_of_cleaning(place: Place) -> None:
    workshop = await place.take("one")
    ignored(workshop.tree)
    await place.pool.give_back(workshop)
    stage = Stage(place)
    stage.runs.stop_asked.set()
    with pytest.raises(Interrupted):
        await Warmer(stage.parts)._look()
    assert not place.pool._pool[0].clean


async def test_the_janitor_deletes_what_it_can(place: Place) -> None:
    stage = Stage(place)
    trash = stage.parts.workspace.trash
    for name in ("a", "b"):
        inside = trash / name / "secret" / "er"
        inside.mkdir(parents=True)
        (inside / "f").write_text("f")
        (inside / "link").symlink_to(place.owner)
        for folder in (inside, inside.parent):
            folder.chmod(0)
    (trash / "c").write_text("c")
    owner = place.owner.stat().st_mode
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Janitor(stage.parts).run)
        await stage.janitor.waiting.wait()
        assert not any(trash.iterdir())
        stage.runs.stop_all(now=False)
        stage.wakes.set_all()
    assert place.owner.stat().st_mode == owner
    assert (place.owner / "top").exists()
