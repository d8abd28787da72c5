"""Warm worktrees against real git: whatever was done to one, the next task gets a fresh one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from git import Repo
from warm_bed import (
    DEEDS,
    Place,
    attributes_of_files,
    deleted,
    git,
    git_says_clean,
    ignored,
    locked,
    look,
    modes,
    nested,
    same_second,
    swapped,
)

from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo import cleaning
from alluvium_like.gitrepo.cleaning import UnusableTree, read_index
from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.workshop import Workshop

MUST_HAVE = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- whatever an agent leaves ------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True], ids=["when-taken", "in-background"])
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
async def test_nothing_of_an_earlier_task_survives(
    place: Place, deed: Callable[[Path], None], background: bool
) -> None:
    shutil.copytree(place.owner / "b", place.root / "old")  # copies the times as well
    (place.root / "old" / "two").write_text("'b/twO'\n")
    workshop = await place.take("one")
    berth = place.pool._out[workshop.tree]
    deed(workshop.tree)
    await place.pool.give_back(workshop)
    assert not workshop.tree.exists()
    if background:
        await place.tend()
    workshop = await place.take("two")
    assert look(workshop.tree) == await place.fresh()
    assert git_says_clean(workshop)
    assert place.pool._out[workshop.tree] is berth, "cleaned, not thrown away"
    precious = place.root / "precious" / "one"
    assert not precious.exists() or precious.read_text() == "mine"


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
async def test_what_the_harvest_took_into_its_index_does_not_survive(
    place: Place, deed: Callable[[Path], None]
) -> None:
    shutil.copytree(place.owner / "b", place.root / "old")
    workshop = await place.take("one")
    deed(workshop.tree)
    with suppress(GitFailed):
        await Git("test").run(
            *("add", "--all"),
            git_dir=place.integration,
            work_tree=workshop.tree,
            index=workshop.index,
        )
    await place.pool.give_back(workshop)
    workshop = await place.take("two")
    assert look(workshop.tree) == await place.fresh()
    assert git_says_clean(workshop)


async def test_all_of_it_at_once_again_and_again(place: Place) -> None:
    for deed in (ignored, same_second, modes, swapped, deleted, locked, nested) * 2:
        workshop = await place.take("one")
        assert look(workshop.tree) == await place.fresh()
        deed(workshop.tree)
        await place.pool.give_back(workshop)


@MUST_HAVE
async def test_extended_attributes_go(place: Place) -> None:
    workshop = await place.take("one")
    try:
        attributes_of_files(workshop.tree)
    except OSError:
        pytest.skip("this file system has none")
    await place.pool.give_back(workshop)
    workshop = await place.take("two")
    assert look(workshop.tree) == await place.fresh()


async def test_a_change_in_the_very_tick_of_the_checkout_is_found(place: Place) -> None:
    """Where the clock is so coarse that the stamp is the same, the marker decides."""
    workshop = await place.take("one")
    (kept,) = place.pool._out.values()
    same_second(workshop.tree)
    index = read_index(kept.index, "sha1")
    held = (workshop.tree / "top").lstat()
    forged = list(index.files[b"top"])
    forged[0], forged[1] = divmod(held.st_ctime_ns, 10**9)
    files = {**index.files, b"top": tuple(forged)}
    fresh = cleaning.look_of_fresh(place.root / "warm")
    marked = held.st_ctime_ns
    trash = place.root / "trash"
    assert not cleaning.clean(workshop.tree, replace(index, files=files), marked, fresh, trash)
    assert not (workshop.tree / "top").exists()


@MUST_HAVE
def test_locked_folders_are_cleaned_without_the_rights_of_root(tmp_path: Path) -> None:
    """Root passes every permission, so this runs without that right."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    less = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    here = Path(__file__)
    cleaning_test = f"{here}::test_nothing_of_an_earlier_task_survives"
    deleting_test = f"{here.with_name('test_warm_pool.py')}::test_the_janitor_deletes_what_it_can"
    done = subprocess.run(
        [
            *(less if os.geteuid() == 0 else []),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
            *(
                "-o",
                "addopts=",
                f"--basetemp={tmp_path / 'inner'}",
                "-k",
                "locked or modes or janitor",
            ),
            *(cleaning_test, deleting_test),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert "5 passed" in done.stdout, done.stdout[-3000:] + done.stderr


# -- what it costs -----------------------------------------------------------------------------


async def test_a_tree_at_the_very_commit_is_handed_over_without_a_process(place: Place) -> None:
    await place.tend(wanted=2)
    assert place.checkouts() == 2
    workshop = await place.take("one")
    assert place.checkouts() == 0
    assert look(workshop.tree) == await place.fresh()
    assert git_says_clean(workshop)


async def test_what_a_library_of_agents_reads_is_what_git_reads(place: Place) -> None:
    """GitPython takes a header of packed references without the word "peeled" for damage."""
    workshop = await place.take("one")
    with Repo(workshop.tree) as repo:
        assert repo.head.commit.hexsha == git(workshop.tree, "rev-parse", "HEAD")
        assert repo.active_branch.name == git(workshop.tree, "branch", "--show-current")


async def test_a_tree_that_only_gained_files_needs_no_process(place: Place) -> None:
    await place.tend(wanted=1)
    workshop = await place.take("one")
    place.checkouts()
    ignored(workshop.tree)
    await place.pool.give_back(workshop)
    await place.take("two")
    assert place.checkouts() == 0


async def test_a_tree_at_another_commit_needs_one_process(place: Place) -> None:
    await place.tend(wanted=1)
    (place.owner / "b" / "one").write_text("second")
    (place.owner / "top").unlink()
    (place.owner / "new" / "er").mkdir(parents=True)
    (place.owner / "new" / "er" / "f").write_text("f")
    second = place.commit("second")
    place.checkouts()
    kept = (place.root / "warm" / "1" / "tree" / "a" / "one").stat().st_ino
    workshop = await place.take("one", second)
    assert place.checkouts() == 1
    assert (workshop.tree / "a" / "one").stat().st_ino == kept, "only what differs is written"
    assert look(workshop.tree) == await place.fresh(second)
    assert git_says_clean(workshop)


async def test_the_very_commit_is_preferred_to_another(place: Place) -> None:
    (place.owner / "top").write_text("second")
    second = place.commit("second")
    await place.tend(wanted=1)
    workshop = await place.take("one", second)
    await place.tend(wanted=2)
    await place.pool.give_back(workshop)  # used, at second
    place.pool._pool.reverse()
    place.checkouts()
    await place.take("two")
    assert place.checkouts() == 0


async def test_the_background_follows_the_base(place: Place) -> None:
    await place.tend(wanted=1)
    (place.owner / "top").write_text("second")
    second = place.commit("second")
    assert place.pool.due(second, 1)
    await place.tend(second, wanted=1)
    place.checkouts()
    assert not place.pool.due(second, 1)
    workshop = await place.take("one", second)
    assert place.checkouts() == 0
    assert look(workshop.tree) == await place.fresh(second)


async def test_other_attributes_write_every_file_anew(place: Place) -> None:
    """Git writes only what differs between two commits; line endings of all others would stay."""
    await place.tend(wanted=1)
    (place.owner / ".gitattributes").write_text("* text eol=crlf\n")
    crlf = place.commit("crlf")
    workshop = await place.take("one", crlf)
    assert b"\r\n" in (workshop.tree / "a" / "one").read_bytes()
    assert look(workshop.tree) == await place.fresh(crlf)
    await place.pool.give_back(workshop)
    workshop = await place.take("two")
    assert look(workshop.tree) == await place.fresh()
    assert git_says_clean(workshop)


async def test_submodules_are_empty_folders_again(place: Place) -> None:
    git(place.owner, "init", "-q", "sub")
    git(place.owner / "sub", "commit", "-q", "--allow-empty", "-m", "s")
    second = place.commit("submodule")
    for deed in (
        lambda sub: (sub / "f").write_text("f"),
        lambda sub: sub.rmdir(),
        lambda sub: git(sub, "init", "-q"),
    ):
        workshop = await place.take("one", second)
        assert look(workshop.tree) == await place.fresh(second)
        deed(workshop.tree / "sub")
        await place.pool.give_back(workshop)


async def test_a_sha256_repository(tmp_path: Path) -> None:
    place = Place(tmp_path, "sha256")
    await place.tend(wanted=1)
    workshop = await place.take("one")
    assert place.checkouts() == 1
    swapped(workshop.tree)
    await place.pool.give_back(workshop)
    (place.owner / "top").write_text("second")
    second = place.commit("second")
    workshop = await place.take("two", second)
    assert look(workshop.tree) == await place.fresh(second)
    assert git_says_clean(workshop)


async def test_tasks_at_the_same_time_get_trees_of_their_own(place: Place) -> None:
    await place.tend(wanted=2)
    taken: list[Workshop] = []

    async def work(name: str) -> None:
        workshop = await place.take(name)
        (workshop.tree / "top").write_text(name)
        taken.append(workshop)

    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(place.tend)
            for number in range(6):
                tasks.start_soon(work, f"t{number}")
        assert {w.tree.joinpath("top").read_text() for w in taken} == {w.name for w in taken}
        async with anyio.create_task_group() as tasks:
            for workshop in taken:
                tasks.start_soon(place.pool.give_back, workshop)
        taken.clear()
        assert len(list((place.root / "warm").iterdir())) <= place.limits.trees


async def test_a_tree_that_is_being_cleaned_is_waited_for(place: Place) -> None:
    workshop = await place.take("one")
    await place.pool.give_back(workshop)
    place.checkouts()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place.tend)
        await anyio.lowlevel.checkpoint()
        await place.take("two")
    assert place.checkouts() == 0


# -- the index ---------------------------------------------------------------------------------


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_the_index_is_read_as_git_reads_it(tmp_path: Path, object_format: str) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    git(folder, "init", "-q", f"--object-format={object_format}")
    names = [b"x" * length for length in range(1, 40)]
    names += [b"\xff\xfe", "ä".encode(), b"with\nnewline", b" lead", b"-dash", b"d/e/f/g"]
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    git(folder, "add", "-A")
    blob = git(folder, "hash-object", "-w", "d/e/f/g")
    # longer than a name of a file may be, as a path, and than the length in an entry can say
    long = "/".join("y" * 250 for _ in range(17))
    git(folder, "update-index", "--add", "--cacheinfo", f"100644,{blob},{long}")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=folder, capture_output=True, check=True
    ).stdout.split(b"\0")[:-1]
    index = read_index(folder / ".git" / "index", object_format)
    assert sorted(index.files) == sorted(listed)
    assert {b"d", b"d/e", b"d/e/f"} < index.folders
    assert b"" not in index.folders
    git(folder, "update-index", "--skip-worktree", "d/e/f/g")
    with pytest.raises(UnusableTree):
        read_index(folder / ".git" / "index", object_format)
