"""What an agent leaves for git to trip over is found before git is: quickly, and with its name."""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from warm_bed import WHO, Place, git, nest

from alluvium_like.deletion import empty
from alluvium_like.gitrepo.harvest import Harvest, Start, harvest
from alluvium_like.gitrepo.hazards import find_obstacle, find_tampering
from alluvium_like.gitrepo.workshop import Workshop, read_branches

SECONDS = 10


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    await made.git.close(made.integration)


async def take_in(place: Place, workshop: Workshop) -> Harvest:
    with anyio.fail_after(SECONDS):
        return await harvest(
            place.git,
            workshop,
            place.source(),
            task_id=workshop.name,
            branch=f"task/{workshop.name}",
            start=Start(place.first),
            author=WHO,
        )


def work(tree: Path) -> None:
    (tree / "new").write_text("new")


def commit(workshop: Workshop) -> Path:
    """Commit something; return the path of its loose object."""
    work(workshop.tree)
    git(workshop.tree, "add", "-A")
    git(workshop.tree, "commit", "-q", "-m", "work")
    blob = git(workshop.tree, "rev-parse", "HEAD:new")
    return workshop.git_dir / "objects" / blob[:2] / blob[2:]


def repository(folder: Path) -> Path:
    """Make a repository with one commit; return what is in its `.git`."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "f").write_text("f")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "f")
    return folder / ".git"


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def behind_a_file(tree: Path) -> None:
    inside = repository(tree.parents[1] / "elsewhere")
    fifo(inside / "HEAD")
    (tree / "sub").mkdir()
    (tree / "sub" / ".git").write_text(f"gitdir: {inside}\n")


def behind_a_link(tree: Path) -> None:
    inside = repository(tree.parents[1] / "elsewhere")
    fifo(inside / "commondir")
    (tree / "sub").mkdir()
    (tree / "sub" / ".git").symlink_to(inside)


def behind_two(tree: Path) -> None:
    """Let HEAD name a ref that stands in a repository which the first one only points at."""
    common = repository(tree.parents[1] / "elsewhere")
    inside = repository(tree / "sub")
    (inside / "commondir").write_text("../../../../elsewhere/.git\n")
    fifo(common / "refs" / "heads" / "x")
    (inside / "HEAD").write_text("ref: refs/heads/x\n")


def odd_ref(tree: Path) -> None:
    inside = repository(tree / "sub")
    (inside / "HEAD").write_text("ref: any/where\n")
    fifo(inside / "any" / "where")


IN_TREE: dict[str, Callable[[Path], None]] = {
    ".gitignore": lambda tree: fifo(tree / ".gitignore"),
    "a/deep/.gitattributes": lambda tree: fifo(tree / "a" / "deep" / ".gitattributes"),
    ".gitmodules": lambda tree: fifo(tree / ".gitmodules"),
    "elsewhere/.git/HEAD": behind_a_file,
    "elsewhere/.git/commondir": behind_a_link,
    "elsewhere/.git/refs/heads/x": behind_two,
    "sub/.git/any/where": odd_ref,
}


@pytest.mark.parametrize("name", IN_TREE)
async def test_a_fifo_where_git_reads_the_files_is_named(place: Place, name: str) -> None:
    workshop = await place.take("one")
    work(workshop.tree)
    IN_TREE[name](workshop.tree)
    found = await take_in(place, workshop)
    assert "a FIFO stands where git reads " in found.problem
    assert found.problem.endswith(name)


def a_fifo_object(workshop: Workshop, loose: Path) -> None:
    fifo(loose)


def a_fifo_pack(workshop: Workshop, loose: Path) -> None:
    fifo(workshop.git_dir / "objects" / "pack" / f"pack-{'0' * 40}.idx")


def a_fifo_graph(workshop: Workshop, loose: Path) -> None:
    fifo(workshop.git_dir / "objects" / "info" / "commit-graph")


def a_fifo_ref(workshop: Workshop, loose: Path) -> None:
    fifo(workshop.git_dir / "refs" / "tags" / "x")


def a_fifo_configuration(workshop: Workshop, loose: Path) -> None:
    fifo(workshop.git_dir / "config")


def a_linked_fifo(workshop: Workshop, loose: Path) -> None:
    fifo(workshop.tree / "pipe")
    (workshop.git_dir / "shallow").symlink_to(workshop.tree / "pipe")


def a_linked_fan_out(workshop: Workshop, loose: Path) -> None:
    moved = workshop.tree.parents[1] / "moved"
    loose.parent.rename(moved)
    loose.parent.symlink_to(moved)


def a_linked_object(workshop: Workshop, loose: Path) -> None:
    moved = workshop.tree.parents[1] / "moved"
    loose.rename(moved)
    loose.symlink_to(moved)


def linked_packs(workshop: Workshop, loose: Path) -> None:
    git(workshop.tree, "repack", "-q", "-a", "-d")
    moved = workshop.tree.parents[1] / "moved"
    shutil.move(workshop.git_dir / "objects" / "pack", moved)
    (workshop.git_dir / "objects" / "pack").symlink_to(moved)


def linked_refs(workshop: Workshop, loose: Path) -> None:
    moved = workshop.tree.parents[1] / "moved"
    moved.mkdir()
    (workshop.git_dir / "refs" / "heads" / "x").symlink_to(moved)


SPOILT = [
    *(a_fifo_object, a_fifo_pack, a_fifo_graph, a_fifo_ref, a_fifo_configuration, a_linked_fifo),
    *(a_linked_fan_out, a_linked_object, linked_packs, linked_refs),
]


@pytest.mark.parametrize("spoil", SPOILT)
async def test_a_workshop_that_git_would_trip_over_is_not_fetched_from(
    place: Place, spoil: Callable[[Workshop, Path], None]
) -> None:
    workshop = await place.take("one")
    loose = commit(workshop)
    assert not find_tampering(workshop, place.source())
    spoil(workshop, loose)
    assert " stands where git reads the workshop's " in find_tampering(workshop, place.source())
    found = await take_in(place, workshop)
    assert " stands where git reads the workshop's " in found.problem


async def test_what_git_does_not_open_is_nobodys_business(place: Place) -> None:
    workshop = await place.take("one")
    tree, git_dir = workshop.tree, workshop.git_dir
    commit(workshop)
    fifo(tree / "a" / "pipe")
    fifo(tree / "a" / "top.gitignore")
    (tree / ".gitkeep").symlink_to("a/pipe")
    (tree / "build").mkdir()
    (tree / "build" / ".gitattributes").symlink_to(tree / "a" / "pipe")
    with socket.socket(socket.AF_UNIX) as server, TemporaryDirectory() as short:
        server.bind(f"{short}/s")  # such a path must be short
        Path(short, "s").rename(git_dir / "fsmonitor--daemon.ipc")
    (git_dir / "hooks").mkdir(exist_ok=True)
    (git_dir / "hooks" / "pre-commit").symlink_to(tree / "run.sh")
    (git_dir / "hooks" / "more").symlink_to(tree)
    (git_dir / "gone").symlink_to("nowhere")
    repository(tree / "nested")
    assert not find_tampering(workshop, place.source())
    assert not find_obstacle(workshop)
    found = await take_in(place, workshop)
    assert not found.problem
    assert found.changed


async def test_pointers_into_the_dark_are_followed_once(place: Place) -> None:
    workshop = await place.take("one")
    for number, pointer in enumerate(("/", "\0", "", "loop", "sub", "\udcff", "x" * 5000)):
        sub = workshop.tree / f"sub{number}"
        sub.mkdir()
        (sub / ".git").write_bytes(os.fsencode(f"gitdir: {pointer}"))
    (workshop.tree / "sub0" / "loop").symlink_to("loop")
    (workshop.tree / "sub").mkdir()
    (workshop.tree / "sub" / ".git").symlink_to(".git")
    assert not find_obstacle(workshop)


async def test_a_locked_worktree_is_read_all_the_same(place: Place) -> None:
    workshop = await place.take("one")
    work(workshop.tree)
    workshop.tree.chmod(0)
    found = await take_in(place, workshop)
    assert not found.problem
    assert found.changed
    assert workshop.tree.stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize("depth", [1200, 3000])
async def test_folders_as_deep_as_can_be_end_nothing(place: Place, depth: int) -> None:
    workshop = await place.take("one")
    commit(workshop)
    nest(workshop.git_dir / "refs" / "heads", depth)
    nest(workshop.tree, depth)
    if depth == 1200:
        assert f"task/{workshop.name}" in read_branches(workshop)
        assert (await take_in(place, workshop)).changed
    else:
        assert "too long" in (await take_in(place, workshop)).problem
        assert "too long" in find_obstacle(workshop)
    await place.pool.give_back(workshop)
    await place.tend()
    empty(place.root / "trash", lambda: False)
    assert not list((place.root / "trash").iterdir())


async def test_commits_that_git_refuses_are_not_taken_in_by_another_way(place: Place) -> None:
    workshop = await place.take("one")
    text = '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'
    (workshop.tree / ".gitmodules").write_text(text)
    commit(workshop)
    found = await take_in(place, workshop)
    assert "the agent's commits cannot be fetched: " in found.problem
    assert "disallowed submodule url: -u./payload" in found.problem
