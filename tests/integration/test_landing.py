"""The landing against the owner's repository, also after it was killed half-way."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo import landing
from alluvium_like.gitrepo.checkouts import NotPlain, read_checkouts
from alluvium_like.gitrepo.landing import Landed, LandingEnd, Owner, land
from alluvium_like.gitrepo.runner import Git


def git(folder: Path, *args: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    identity = ["-c", "user.name=Owner", "-c", "user.email=owner@example.org"]
    done = subprocess.run(
        ["git", *identity, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return done.stdout.strip()


class Place:
    """The owner's repository, the daemon's, and one commit that is to land."""

    def __init__(self, root: Path) -> None:
        self.owner = root / "repo"
        self.integration = root / "integration.git"
        self.owner.mkdir()
        git(self.owner, "init", "-q", "-b", "main")
        for name in ("changed", "removed", "kept"):
            (self.owner / name).write_text(f"{name}\n")
        git(self.owner, "add", "-A")
        git(self.owner, "commit", "-q", "-m", "start")
        self.old = git(self.owner, "rev-parse", "HEAD")
        git(root, "clone", "-q", "--bare", str(self.owner), str(self.integration))
        work = root / "work"
        git(root, "clone", "-q", str(self.integration), str(work))
        (work / "changed").write_text("new text\n")
        (work / "removed").unlink()
        (work / "added").write_text("added\n")
        (work / "link").symlink_to("kept")
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", "work")
        git(work, "push", "-q", "origin", "HEAD:main")
        self.new = git(work, "rev-parse", "HEAD")

    async def land(self) -> LandingEnd:
        owner = Owner(self.owner / ".git", "main", self.owner)
        return await land(Git("test"), owner, self.integration, self.old, self.new)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_it_fast_forwards_and_may_be_repeated(place: Place) -> None:
    assert (await place.land()).result is Landed.LANDED
    assert (await place.land()).result is Landed.LANDED
    assert git(place.owner, "rev-parse", "main") == place.new
    assert git(place.owner, "status", "--porcelain") == ""


@pytest.mark.parametrize("written", [{"changed"}, {"added"}, {"removed"}, {"link", "changed"}])
async def test_a_half_written_checkout_is_finished(place: Place, written: set[str]) -> None:
    """What a kill in the middle of git's checkout leaves: files, with the index and ref old."""
    if "changed" in written:
        (place.owner / "changed").write_text("new text\n")
    if "added" in written:
        (place.owner / "added").write_text("added\n")
    if "removed" in written:
        (place.owner / "removed").unlink()
    if "link" in written:
        (place.owner / "link").symlink_to("kept")
    assert (await place.land()).result is Landed.LANDED
    assert git(place.owner, "rev-parse", "main") == place.new
    assert git(place.owner, "status", "--porcelain") == ""


async def test_a_half_written_checkout_with_an_edit_of_the_owner_is_left_alone(
    place: Place,
) -> None:
    (place.owner / "changed").write_text("new text\n")
    (place.owner / "added").write_text("the owner's\n")
    before = git(place.owner, "status", "--porcelain")
    end = await place.land()
    assert end.result is Landed.BLOCKED
    assert "added" in end.reason
    assert git(place.owner, "status", "--porcelain") == before
    assert git(place.owner, "rev-parse", "main") == place.old
    assert (place.owner / "added").read_text() == "the owner's\n"


async def test_what_the_owner_staged_is_never_taken_for_ours(place: Place) -> None:
    (place.owner / "changed").write_text("staged by the owner\n")
    git(place.owner, "add", "changed")
    (place.owner / "changed").write_text("new text\n")
    assert (await place.land()).result is Landed.BLOCKED
    assert git(place.owner, "show", ":changed") == "staged by the owner"


async def test_a_tree_and_index_that_are_done_only_need_the_ref(place: Place) -> None:
    git(place.owner, "fetch", "-q", str(place.integration), "main")
    git(place.owner, "read-tree", "-m", "-u", place.old, place.new)
    assert (await place.land()).result is Landed.LANDED
    assert git(place.owner, "status", "--porcelain") == ""


async def test_a_base_that_moved_is_told(place: Place) -> None:
    git(place.owner, "commit", "-q", "--allow-empty", "-m", "owner's")
    tip = git(place.owner, "rev-parse", "main")
    assert (await place.land()).result is Landed.MOVED
    assert git(place.owner, "rev-parse", "main") == tip


async def test_a_base_checked_out_in_another_worktree_of_the_owner(place: Place) -> None:
    git(place.owner, "checkout", "-q", "-b", "mine")
    git(place.owner, "worktree", "add", "-q", "../second", "main")
    assert (await place.land()).result is Landed.LANDED
    second = place.owner.parent / "second"
    assert (second / "added").exists()
    assert git(second, "status", "--porcelain") == ""
    assert git(place.owner, "rev-parse", "mine") == place.old


async def test_the_owners_configuration_counts_in_the_checkout(place: Place) -> None:
    """Line endings as the owner wants them, else every landed file would look edited."""
    git(place.owner, "config", "core.autocrlf", "true")
    (place.owner / "changed").unlink()
    git(place.owner, "checkout", "-q", "changed")
    assert (await place.land()).result is Landed.LANDED
    assert (place.owner / "changed").read_bytes() == b"new text\r\n"
    assert git(place.owner, "status", "--porcelain") == ""


async def test_no_hook_runs_and_no_option_of_the_owners_bends_the_landing(place: Place) -> None:
    hook = place.owner / ".git" / "hooks" / "post-merge"
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    git(place.owner, "config", "branch.main.mergeOptions", "--squash --no-ff")
    assert (await place.land()).result is Landed.LANDED
    assert not (place.owner / "ran").exists()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What git was started for."""
    found: list[str] = []
    run = Git.run

    async def noted(self: Git, *args: str, **options: Any) -> Completed:
        found.append(next(a for a in args if not a.startswith("-") and "=" not in a))
        return await run(self, *args, **options)

    monkeypatch.setattr(Git, "run", noted)
    return found


async def test_a_plain_repository_is_read_without_a_process(
    place: Place, commands: list[str]
) -> None:
    assert (await place.land()).result is Landed.LANDED
    assert commands == ["fetch", "merge"]


async def test_a_base_that_is_nowhere_checked_out_is_moved_as_a_ref(
    place: Place, commands: list[str]
) -> None:
    git(place.owner, "checkout", "-q", "--detach")
    git(place.owner, "worktree", "add", "-q", "-b", "other", "../second", "main")
    assert (await place.land()).result is Landed.LANDED
    assert commands == ["fetch", "update-ref"]
    assert git(place.owner, "rev-parse", "main") == place.new
    assert git(place.owner, "status", "--porcelain") == ""


def _is_bare(place: Place) -> None:
    git(place.owner, "config", "core.bare", "true")


def _has_its_worktree_elsewhere(place: Place) -> None:
    place.owner.rename(place.owner.with_name("moved"))
    place.owner.mkdir()
    (place.owner.with_name("moved") / ".git").rename(place.owner / ".git")
    git(place.owner, "config", "core.worktree", str(place.owner.with_name("moved")))


def _includes_another_configuration(place: Place) -> None:
    (place.owner / ".git" / "more").write_text("[core]\n\tbare = true\n")
    git(place.owner, "config", "include.path", "more")


def _links_its_head(place: Place) -> None:
    head = place.owner / ".git" / "HEAD"
    head.unlink()
    head.symlink_to("refs/heads/main")


def _says_bare_in_its_own_way(place: Place) -> None:
    with (place.owner / ".git" / "config").open("a") as config:
        config.write("[core]\n\tBARE\n")


@pytest.mark.parametrize(
    "make_odd",
    [
        _is_bare,
        _has_its_worktree_elsewhere,
        _includes_another_configuration,
        _links_its_head,
        _says_bare_in_its_own_way,
    ],
)
async def test_an_odd_repository_is_read_by_git(
    place: Place, commands: list[str], make_odd: Callable[[Place], None]
) -> None:
    make_odd(place)
    listed = git(place.owner, "worktree", "list", "--porcelain")
    held = "branch refs/heads/main" in listed
    assert (await place.land()).result is Landed.LANDED
    assert commands == ["fetch", "worktree", "merge" if held else "update-ref"]
    assert git(place.owner, "rev-parse", "main") == place.new


async def test_packed_refs_are_read_by_git(place: Place) -> None:
    git(place.owner, "pack-refs", "--all")
    (place.owner / "kept").write_text("the owner's\n")
    (place.owner / "changed").write_text("the owner's\n")
    end = await place.land()
    assert end.result is Landed.BLOCKED
    assert "changed" in end.reason


async def test_a_worktree_with_a_relative_link_is_found(place: Place) -> None:
    git(place.owner, "checkout", "-q", "-b", "mine")
    git(place.owner, "worktree", "add", "-q", "../second", "main")
    gitdir = place.owner / ".git" / "worktrees" / "second" / "gitdir"
    git_dir = place.owner / ".git"
    assert read_checkouts(git_dir, "refs/heads/main") == [place.owner.with_name("second")]
    gitdir.write_text("../../../../second/.git\n")
    with pytest.raises(NotPlain):
        read_checkouts(git_dir, "refs/heads/main")


async def test_git_tidies_up_in_the_owners_repository_only_when_packs_have_gathered(
    place: Place,
) -> None:
    git(place.owner, "config", "gc.autoDetach", "false")
    git(place.owner, "config", "gc.autoPackLimit", "1")
    packs = place.owner / ".git" / "objects" / "pack"
    git(place.owner, "repack", "-q")
    assert (await place.land()).result is Landed.LANDED
    assert len(list(packs.glob("*.pack"))) == 2
    git(place.owner, "config", "maintenance.auto", "false")
    for _ in range(landing._MANY_PACKS):
        git(place.owner, "commit", "-q", "--allow-empty", "-m", "owner's")
        git(place.owner, "repack", "-q")
    git(place.owner, "config", "--unset", "maintenance.auto")
    assert len(list(packs.glob("*.pack"))) > landing._MANY_PACKS
    tip = git(place.owner, "rev-parse", "main")
    git(place.owner, "push", "-q", str(place.integration), "main")
    place.old = place.new = tip
    tree = git(place.owner, "rev-parse", "main^{tree}")
    place.new = git(place.integration, "commit-tree", "-p", tip, "-m", "next", tree)
    git(place.integration, "update-ref", "refs/heads/main", place.new)
    assert (await place.land()).result is Landed.LANDED
    assert len(list(packs.glob("*.pack"))) < landing._MANY_PACKS
