"""A fetch that reads a workshop in a box: it takes in what is whole, and nothing of anybody else.

What the daemon looks for before it fetches is passed by in some of these tests on purpose: the box
has to do alone.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from bed import Bed
from warm_bed import WHO, Place, git

from alluvium_like.config import Config
from alluvium_like.config.agents import Profile
from alluvium_like.config.sandbox import Sandbox
from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.harvest import Harvest, Start, _fetch, harvest
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.sandbox.bubblewrap import find_problem
from alluvium_like.stages.boxes import Boxes
from alluvium_like.workspace import Workspace

pytestmark = pytest.mark.skipif(bool(find_problem()), reason="needs bubblewrap")
MANY = 320  # more loose objects than are carried without a fetch
EVIL = '#!/bin/sh\necho ran >> "{mark}"\nexec "$@"\n'


class Reading:
    """A workshop with work, what reads it in a box, and a repository that is nobody's business."""

    def __init__(self, place: Place, workshop: Workshop) -> None:
        self.place, self.workshop = place, workshop
        self.git = place.git
        self.boxes = Boxes(Workspace(place.root))
        self.private = place.root / "elsewhere" / "private.git"
        git(place.root, "init", "-q", "--bare", str(self.private))
        tree = git(self.private, "mktree")
        self.secret = git(self.private, "commit-tree", "-m", "private", tree)
        self.mark = place.root / "mark"
        self.evil = place.root / "evil"
        self.evil.write_text(EVIL.format(mark=self.mark))
        self.evil.chmod(0o755)

    @property
    def reader(self) -> list[str]:
        return self.boxes.reader_of(Config(), Profile(), self.workshop, self.place.integration)

    def work(self, files: int = MANY) -> str:
        tree = self.workshop.tree
        for number in range(files):
            (tree / f"{number}").write_text(f"{number}")
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", "work")
        return git(tree, "rev-parse", "HEAD")

    async def harvest(self) -> Harvest:
        return await harvest(
            self.git,
            self.workshop,
            self.place.source(),
            task_id=self.workshop.name,
            branch=f"task/{self.workshop.name}",
            start=Start(self.place.first),
            author=WHO,
            reader=self.reader,
        )

    async def fetch(self, commit: str, reader: list[str]) -> None:
        refs = [f"refs/alluvium/tasks/{commit}"]
        await _fetch(self.git, self.place.integration, self.workshop, [commit], refs, reader)

    def has(self, commit: str) -> bool:
        return bool(git(self.place.integration, "for-each-ref", f"--points-at={commit}"))


def said(argv: list[str]) -> str:
    return subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    ).stdout


@pytest.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    place = Place(tmp_path)
    yield Reading(place, await place.take("t"))
    await place.git.close(place.integration)


async def test_large_work_and_packed_work_are_taken_in(reading: Reading) -> None:
    first = reading.work()
    found = await reading.harvest()
    assert (found.commit, found.problem, found.changed) == (first, "", True)
    git(reading.workshop.git_dir, "repack", "-adq")
    git(reading.workshop.tree, "commit", "-q", "--allow-empty", "-m", "more")
    git(reading.workshop.tree, "gc", "-q", "--prune=now")
    found = await reading.harvest()
    assert found.problem == ""
    assert reading.has(git(reading.workshop.tree, "rev-parse", "HEAD"))


async def test_it_is_read_in_a_box(reading: Reading) -> None:
    """The program that reads is seen in no other folder than the workshop and what it borrows."""
    script = f"ls {reading.place.root} {reading.place.root}/workshops; ls {reading.private}"
    seen = said([*reading.reader, "/bin/sh", "-c", script])
    assert "No such file" in seen
    for name in ("repo", "worktrees", "elsewhere", "evil"):
        assert name not in seen.split()


def borrow(reading: Reading) -> None:
    with reading.workshop.alternates.open("a") as file:
        file.write(f"{reading.private / 'objects'}\n")


def link(reading: Reading) -> None:
    for folder in (reading.private / "objects").glob("??"):
        place = reading.workshop.git_dir / "objects" / folder.name
        if not place.exists():
            place.symlink_to(folder)
        for file in folder.iterdir():
            if not (place / file.name).exists():
                (place / file.name).symlink_to(file)


def move_away(reading: Reading) -> None:
    objects = reading.workshop.git_dir / "objects"
    shutil.copytree(objects, reading.private / "objects", dirs_exist_ok=True)
    shutil.rmtree(objects)
    objects.symlink_to(reading.private / "objects")


@pytest.mark.parametrize("plant", [borrow, link, move_away])
async def test_what_is_of_another_repository_is_not_published(
    reading: Reading, plant: Callable[[Reading], None]
) -> None:
    plant(reading)
    (reading.workshop.git_dir / "refs" / "heads" / "stolen").write_text(f"{reading.secret}\n")
    found = await reading.harvest()  # the daemon looks first, and does not even fetch
    assert "workshop" in found.problem
    with pytest.raises(GitFailed):
        await reading.fetch(reading.secret, reading.reader)
    assert not reading.has(reading.secret)
    await reading.fetch(reading.secret, [])  # without the box it is published
    assert reading.has(reading.secret)


async def test_nothing_that_is_configured_is_run(reading: Reading) -> None:
    commit = reading.work()
    more = reading.place.root / "more"
    for key in ("uploadpack.packObjectsHook", "core.alternateRefsCommand", "core.fsmonitor"):
        git(reading.workshop.git_dir, "config", key, str(reading.evil))
        git(reading.place.root, "config", "-f", str(more), key, str(reading.evil))
    git(reading.workshop.git_dir, "config", "include.path", str(more))
    hooks = reading.workshop.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-upload-pack", "pre-receive", "reference-transaction", "post-index-change"):
        shutil.copy(reading.evil, hooks / name)
    found = await reading.harvest()
    assert (found.commit, found.problem) == (commit, "")
    assert not reading.mark.exists()


async def test_a_broken_object_and_a_commit_that_is_not_whole_are_refused(
    reading: Reading,
) -> None:
    commit = reading.work()
    shop = reading.workshop
    blob = git(shop.tree, "rev-parse", "HEAD:1")
    path = shop.git_dir / "objects" / blob[:2] / blob[2:]
    kept = path.read_bytes()
    path.unlink()
    assert "cannot be fetched" in (await reading.harvest()).problem
    path.write_bytes(kept)
    raw = shop.git_dir / "raw"
    raw.write_bytes(b"100644 .git\0" + bytes.fromhex(blob))
    tree = git(shop.git_dir, "hash-object", "-t", "tree", "--literally", "-w", str(raw))
    broken = git(shop.git_dir, "commit-tree", "-p", commit, "-m", "broken", tree)
    git(shop.git_dir, "update-ref", f"refs/heads/task/{shop.name}", broken)
    assert "cannot be fetched" in (await reading.harvest()).problem
    assert not reading.has(broken)
    git(shop.git_dir, "update-ref", f"refs/heads/task/{shop.name}", commit)
    assert (await reading.harvest()).problem == ""


async def test_a_git_that_is_no_part_of_the_system_is_shown_to_its_box(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it: its programs lie beside the one that is called."""
    prefix = reading.place.root / "elsewhere" / "git"
    (prefix / "bin").mkdir(parents=True)
    core = prefix / "libexec" / "git-core"
    core.mkdir(parents=True)
    real = shutil.which("git") or ""
    for place in (prefix / "bin", core):
        shutil.copy(real, place / "git")
        (place / "git-upload-pack").symlink_to("git")
    monkeypatch.setenv("PATH", f"{prefix / 'bin'}:{os.environ['PATH']}")
    reader = Boxes(Workspace(reading.place.root)).reader_of(
        Config(), Profile(), reading.workshop, reading.place.integration
    )
    which = f"command -v git-upload-pack; ls {core}"
    seen = said([*reader, "/bin/sh", "-c", which])
    assert seen.split() == [str(prefix / "bin" / "git-upload-pack"), "git", "git-upload-pack"]
    commit = reading.work()
    await reading.fetch(commit, reader)
    assert reading.has(commit)


def test_a_workshop_is_read_in_a_box_where_its_agent_had_one(reading: Reading) -> None:
    """Or where agents have one by rule, though this one had none."""

    def is_boxed(rule: str, own: str) -> bool:
        config = Config(sandbox=Sandbox.model_validate({"mode": rule}))
        profile = Profile.model_validate({"sandbox": own})
        place = reading.place.integration
        return bool(reading.boxes.reader_of(config, profile, reading.workshop, place))

    pairs = set(itertools.product(("auto", "none"), ("auto", "none", "")))
    unboxed = {pair for pair in pairs if not is_boxed(*pair)}
    assert unboxed == {("none", "none"), ("none", "")}


def test_a_daemon_reads_large_work_through_the_box(bed: Bed) -> None:
    seen = bed.root.parent / "seen"
    wrapper = bed.root.parent / "bin" / "bwrap"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\necho "$@" | grep -o "git-upload-pack .*" >> "{seen}"\n'
        f'exec {shutil.which("bwrap")} "$@"\n'
    )
    wrapper.chmod(0o755)
    bed.environment["PATH"] = f"{wrapper.parent}:{bed.environment['PATH']}"
    bed.make(
        f"i=0; while [ $i -lt {MANY} ]; do echo $i > $i; i=$((i + 1)); done\n"
        "git add -A; git commit -q -m work"
    )
    bed.start()
    bed.drop("large")
    assert bed.wait_for("large", "done", "needs_human")["outcome"] == "merged"
    assert bed.base_file("7") == "7"
    assert "workshops" in seen.read_text()
