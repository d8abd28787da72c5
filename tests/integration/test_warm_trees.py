"""Warm worktrees against real git: whatever was done to one, the next task gets a fresh one."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from alluvium_like.errors import GitFailed
from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo import berth as berths
from alluvium_like.gitrepo import cleaning
from alluvium_like.gitrepo.cleaning import Interrupted, UnusableTree, read_index
from alluvium_like.gitrepo.runner import Git, Identity
from alluvium_like.gitrepo.warm import Limits, WarmTrees
from alluvium_like.gitrepo.workshop import Source, Workshop, make_workshop, set_aside

WHO = Identity("Daemon", "daemon@example.org")
PLENTY = 1_000_000_000
MUST_HAVE = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=Owner", "-c", "user.email=owner@example.org"]
    done = subprocess.run(
        ["git", *identity, *args],
        cwd=folder,
        capture_output=True,
        check=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )
    return os.fsdecode(done.stdout).strip()


@dataclass(frozen=True, slots=True)
class CountingGit(Git):
    """Counts the processes, and fails those that it is told to."""

    calls: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)

    async def run(self, *args: str, **options: Any) -> Completed:
        self.calls.append(args[0])
        if self.full:
            raise GitFailed(list(args), 128, f"fatal: cannot write: {self.full.pop()}\n")
        return await Git.run(self, *args, **options)


class Place:
    """An owner's repository, the daemon's, and a pool of warm trees."""

    def __init__(self, root: Path, object_format: str = "sha1") -> None:
        self.root = root
        self.owner = root / "repo"
        self.integration = root / "integration.git"
        self.object_format = object_format
        for name in ("worktrees", "workshops", "warm", "trash", "repo"):
            (root / name).mkdir()
        git(self.owner, "init", "-q", "-b", "main", f"--object-format={object_format}")
        for name in ("a/one", "a/two", "a/deep/er/three", "b/one", "b/two", "top", "über/\udcff"):
            path = self.owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name!a}\n")
        (self.owner / "run.sh").write_text("#!/bin/sh\n")
        (self.owner / "run.sh").chmod(0o755)
        (self.owner / "link").symlink_to("a/one")
        (self.owner / ".gitignore").write_text("*.o\nbuild/\n")
        self.first = self.commit("first")
        git(root, "clone", "-q", "--bare", str(self.owner), str(self.integration))
        self.git = CountingGit("test")
        self.limits = Limits(4, PLENTY)
        self.pool = self.open()

    def open(self) -> WarmTrees:
        return WarmTrees(self.git, self.root / "warm", self.root / "trash", lambda: self.limits)

    def commit(self, message: str) -> str:
        git(self.owner, "add", "-A")
        git(self.owner, "commit", "-q", "-m", message)
        if self.integration.exists():
            git(self.integration, "fetch", "-q", str(self.owner), "main:main")
        return git(self.owner, "rev-parse", "HEAD")

    def source(self, commit: str = "") -> Source:
        return Source(self.integration, self.object_format, "main", commit or self.first, ())

    def workshop(self, name: str) -> Workshop:
        return Workshop(
            name, self.root / "workshops" / f"{name}.git", self.root / "worktrees" / name
        )

    async def take(self, name: str, commit: str = "") -> Workshop:
        workshop = self.workshop(name)
        await self.pool.take(
            workshop,
            self.source(commit),
            commit=commit or self.first,
            branch=f"task/{name}",
            user=WHO,
        )
        return workshop

    async def tend(self, commit: str = "", wanted: int = 0) -> None:
        while self.pool.due(commit or self.first, wanted):
            if not await self.pool.tend(self.source(commit), wanted, lambda: False):
                return

    async def fresh(self, commit: str = "") -> dict[str, object]:
        """Return what a checkout without any pool looks like."""
        workshop = self.workshop("fresh")
        set_aside(workshop, self.root / "trash")
        await make_workshop(
            Git("test"),
            workshop,
            self.source(commit),
            commit=commit or self.first,
            branch="task/fresh",
            user=WHO,
        )
        found = look(workshop.tree)
        set_aside(workshop, self.root / "trash")
        return found

    def checkouts(self) -> int:
        """Return how many checkouts there were since the last time."""
        made = len(self.git.calls)
        self.git.calls.clear()
        return made


def look(tree: Path) -> dict[str, object]:
    """Return everything that can be seen of a tree but times: each path with its mode and bytes."""
    found: dict[str, object] = {}
    for path in (tree, *tree.rglob("*")):
        held = path.lstat()
        content = b""
        if stat.S_ISREG(held.st_mode):
            content = path.read_bytes()
            assert held.st_nlink == 1, "nobody outside has a name for it"
        elif stat.S_ISLNK(held.st_mode):
            content = os.fsencode(path.readlink())
        shown = b"" if path.name == ".git" else content
        extended = os.listxattr(path, follow_symlinks=False)
        found[str(path.relative_to(tree))] = stat.filemode(held.st_mode), shown, extended
    return found


def git_says_clean(workshop: Workshop) -> bool:
    """Tell whether the agent's own git sees its branch and nothing changed, not by times alone."""
    assert git(workshop.tree, "symbolic-ref", "HEAD") == f"refs/heads/task/{workshop.name}"
    status = git(workshop.tree, "status", "--porcelain", "--ignored")
    index = workshop.admin / "index"
    os.utime(index, (1, 1))  # as if every file was written after it: git reads them all
    return not status and not git(workshop.tree, "status", "--porcelain", "--ignored")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- whatever an agent leaves ------------------------------------------------------------------


def same_second(tree: Path) -> None:
    """Change bytes and put back all that can be put back of the times."""
    held = (tree / "top").lstat()
    with (tree / "top").open("r+b") as stream:
        stream.write(b"EVIL")
    os.utime(tree / "top", ns=(held.st_atime_ns, held.st_mtime_ns))


def moved_in(tree: Path) -> None:
    """Bring in files that are older than the checkout, with their times, below known names."""
    old = tree.parents[1] / "old"
    (tree / "b").rename(tree.parents[1] / "gone")
    old.rename(tree / "b")


def swapped(tree: Path) -> None:
    (tree / "a").rename(tree / "x")
    (tree / "b").rename(tree / "a")
    (tree / "x").rename(tree / "b")


def nested(tree: Path) -> None:
    git(tree, "init", "-q", "nested")
    (tree / "nested" / "f").write_text("f")
    git(tree / "nested", "add", "-A")
    git(tree / "nested", "commit", "-q", "-m", "f")
    git(tree / "a", "init", "-q")


def ignored(tree: Path) -> None:
    (tree / "a" / "one.o").write_bytes(b"\0")
    (tree / "build" / "deep").mkdir(parents=True)
    (tree / "build" / "deep" / "out").write_text("out")
    (tree / "node_modules").mkdir()
    (tree / "node_modules" / "m.js").write_text("m")


def locked(tree: Path) -> None:
    (tree / "secret" / "er").mkdir(parents=True)
    (tree / "secret" / "er" / "f").write_text("f")
    for folder in ("secret/er", "secret", "a/deep/er", "a/deep", "a"):
        (tree / folder).chmod(0)


def links(tree: Path) -> None:
    precious = tree.parents[1] / "precious"
    precious.mkdir()
    (precious / "one").write_text("mine")
    shutil.rmtree(tree / "b")
    (tree / "b").symlink_to(precious)
    (tree / "new").symlink_to(precious)
    (tree / "link").unlink()
    (tree / "link").symlink_to("a/two")
    (tree / "top").unlink()
    (tree / "top").symlink_to("run.sh")


def kinds(tree: Path) -> None:
    (tree / "top").unlink()
    (tree / "top").mkdir()
    (tree / "top" / "f").write_text("f")
    shutil.rmtree(tree / "a")
    (tree / "a").write_text("now a file")
    (tree / "link").unlink()
    (tree / "link").write_text("a/one")
    (tree / "run.sh").unlink()
    os.mkfifo(tree / "run.sh")
    os.mkfifo(tree / "pipe")


def modes(tree: Path) -> None:
    (tree / "run.sh").chmod(0o644)
    (tree / "top").chmod(0o755)
    (tree / "a" / "one").chmod(0o600)
    (tree / "b" / "one").chmod(0o4755)
    (tree / "b").chmod(0o2777)
    tree.chmod(0o700)


def deleted(tree: Path) -> None:
    shutil.rmtree(tree / "a")
    (tree / "top").unlink()


def second_names(tree: Path) -> None:
    """Keep names outside by which the files of the next task could be written."""
    os.link(tree / "top", tree.parents[1] / "handle")
    (tree / "b" / "one").unlink()
    os.link(tree.parents[1] / "old" / "one", tree / "b" / "one")


def empty_folders(tree: Path) -> None:
    (tree / "empty" / "er").mkdir(parents=True)
    (tree / "a" / "hollow").mkdir()


def git_state(tree: Path) -> None:
    git(tree, "update-index", "--skip-worktree", "top")
    (tree / "top").write_text("hidden")
    git(tree, "update-index", "--assume-unchanged", "run.sh")
    (tree / "run.sh").write_text("hidden")
    git(tree, "sparse-checkout", "set", "--no-cone", "/a/")
    (tree / ".git").unlink()
    (tree / ".git").mkdir()
    (tree / ".git" / "HEAD").write_text("x")


def commits(tree: Path) -> None:
    (tree / "a" / "one").write_text("committed")
    (tree / "added").write_text("added")
    (tree / ".gitattributes").write_text("* text eol=crlf\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "work")


def attributes_of_files(tree: Path) -> None:
    os.setxattr(tree / "top", "user.mark", b"x")
    os.setxattr(tree / "a", "user.mark", b"x")


DEEDS: list[Callable[[Path], None]] = [
    *(same_second, moved_in, swapped, nested, ignored, locked, links, kinds, modes, deleted),
    *(second_names, empty_folders, git_state, commits),
]


@pytest.mark.parametrize("background", [False, True], ids=["when-taken", "in-background"])
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
async def test_nothing_of_an_earlier_task_survives(
    place: Place, deed: Callable[[Path], None], background: bool
) -> None:
    shutil.copytree(place.owner / "b", place.root / "old")  # copies the times as well
    (place.root / "old" / "two").write_text("'b/twO'\n")
    workshop = await place.take("one")
    deed(workshop.tree)
    await place.pool.give_back(workshop)
    assert not workshop.tree.exists()
    if background:
        await place.tend()
    workshop = await place.take("two")
    assert look(workshop.tree) == await place.fresh()
    assert git_says_clean(workshop)
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
    test = f"{__file__}::test_nothing_of_an_earlier_task_survives"
    done = subprocess.run(
        [
            *(less if os.geteuid() == 0 else []),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
            *("-o", "addopts=", f"--basetemp={tmp_path / 'inner'}", "-k", "locked or modes", test),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert "4 passed" in done.stdout, done.stdout[-3000:] + done.stderr


# -- what it costs -----------------------------------------------------------------------------


async def test_a_tree_at_the_very_commit_is_handed_over_without_a_process(place: Place) -> None:
    await place.tend(wanted=2)
    assert place.checkouts() == 2
    workshop = await place.take("one")
    assert place.checkouts() == 0
    assert look(workshop.tree) == await place.fresh()
    assert git_says_clean(workshop)


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
