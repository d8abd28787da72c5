"""The owner's repository in every state that a landing may meet: nothing of theirs is lost.

Where the state stands in the way the landing waits, says for what in words a person can act on, has
changed nothing, and comes through when the state is over. Where it does not, only what lands is
other than before.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from owner_place import (
    LANDED,
    Place,
    commit,
    git,
    lost,
    lost_beside,
    write,
)

from alluvium_like.gitrepo.landing import Landed
from alluvium_like.gitrepo.owner import inspect_repository

Deed = Callable[[Place], object]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.made(tmp_path_factory.mktemp("pattern") / "place")


@pytest.fixture
def place(pattern: Place, tmp_path: Path) -> Place:
    return pattern.copy_to(tmp_path / "place")


# -- what a landing waits for ----------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    """A state that stands in the way, what the owner is told, and how they end it."""

    begin: Deed
    told: str
    end: Deed


def _writes(name: str, text: str = "mine\n") -> Deed:
    return lambda place: write(place.tree, name, text)


def _runs(*args: str, code: int = 0) -> Deed:
    return lambda place: git(place.tree, *args, code=code)


def _all(*deeds: Deed) -> Deed:
    def do(place: Place) -> None:
        for deed in deeds:
            deed(place)

    return do


def _removes(name: str) -> Deed:
    def do(place: Place) -> None:
        path = place.tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def _branch_that_conflicts(place: Place) -> None:
    """A branch `mine` and a commit on main that change the same line."""
    git(place.tree, "checkout", "-q", "-b", "mine", "HEAD~1")
    write(place.tree, "kept", "another\n")
    commit(place.tree, "mine")
    git(place.tree, "checkout", "-q", "main")


def _on_mine(place: Place) -> str:
    return git(place.tree, "commit-tree", "-p", "mine", "-m", "more", "main^{tree}")


def _conflicting_stash(place: Place) -> None:
    """What `stash pop` leaves: a conflict in the index, and no operation under way."""
    write(place.tree, "kept", "stashed\n")
    git(place.tree, "stash", "-q")
    write(place.tree, "kept", "since then\n")
    git(place.tree, "commit", "-qam", "since then")
    place.offer()
    git(place.tree, "stash", "apply", "-q", code=1)


def _patch_that_fails(place: Place) -> None:
    patch = git(place.tree, "format-patch", "--stdout", "-1", "mine")
    write(place.root, "mine.patch", patch + "\n")
    git(place.tree, "am", "-q", str(place.root / "mine.patch"), code=128)


def _rebase_of_main(place: Place, *options: str) -> None:
    git(place.tree, "rebase", "-q", *options, "mine", code=1)


def _rebase_that_updates_main(place: Place) -> None:
    git(place.tree, "checkout", "-q", "-b", "top")
    commit(place.tree, "top")
    git(place.tree, "rebase", "-q", "--update-refs", "mine", code=1)


def _second_checkout(place: Place) -> None:
    git(place.tree, "worktree", "add", "-q", "-f", "../second", "main")


def _checkout_elsewhere_that_is_gone(place: Place) -> None:
    git(place.tree, "checkout", "-q", "-b", "mine")
    git(place.tree, "worktree", "add", "-q", "../second", "main")
    (place.root / "second").rename(place.root / "unplugged")


CONFLICT = _branch_that_conflicts
IN_THE_WAY = "your own changes are in the way: "
WAITING = {
    "an edited file": Waiting(
        _writes("changed"), IN_THE_WAY + "changed", _runs("checkout", "-q", "changed")
    ),
    "a staged file": Waiting(
        _all(_writes("changed"), _runs("add", "changed")),
        "changed",
        _runs("reset", "-q", "--hard"),
    ),
    "a staged removal": Waiting(
        _runs("rm", "-q", "changed"), "changed", _runs("reset", "-q", "--hard")
    ),
    "an untracked file": Waiting(_writes("added"), IN_THE_WAY + "added", _removes("added")),
    "an ignored file": Waiting(
        _all(_writes(".git/info/exclude", "added\n"), _writes("added")),
        IN_THE_WAY + "added",
        _removes("added"),
    ),
    "a folder where a file lands": Waiting(_writes("added/precious"), "added", _removes("added")),
    "an ignored folder where a file lands": Waiting(
        _all(_writes(".git/info/exclude", "precious\n"), _writes("added/precious")),
        "added",
        _removes("added"),
    ),
    "a file where a folder lands": Waiting(_writes("folder"), "folder", _removes("folder")),
    "a file that is meant to be added": Waiting(
        _all(_writes("added"), _runs("add", "-N", "added")),
        "added",
        _all(_runs("rm", "-q", "--cached", "added"), _removes("added")),
    ),
    "an edit behind assume-unchanged": Waiting(
        _all(_runs("update-index", "--assume-unchanged", "changed"), _writes("changed")),
        IN_THE_WAY + "changed",
        _all(
            _runs("update-index", "--no-assume-unchanged", "changed"),
            _runs("checkout", "-q", "changed"),
        ),
    ),
    "an edit behind skip-worktree": Waiting(
        _all(_runs("update-index", "--skip-worktree", "changed"), _writes("changed")),
        IN_THE_WAY + "changed",
        _all(
            _runs("update-index", "--no-skip-worktree", "changed"),
            _runs("checkout", "-q", "changed"),
        ),
    ),
    "a conflict that is not resolved": Waiting(
        _conflicting_stash, "unmerged files", _runs("reset", "-q", "--hard")
    ),
    "a merge": Waiting(
        _all(CONFLICT, _runs("merge", "-q", "mine", code=1)),
        "a merge is under way",
        _runs("merge", "--abort"),
    ),
    "a merge whose conflicts are resolved": Waiting(
        _all(CONFLICT, _runs("merge", "-q", "mine", code=1), _runs("add", "kept")),
        "a merge is under way",
        _runs("merge", "--abort"),
    ),
    "a cherry-pick": Waiting(
        _all(CONFLICT, _runs("cherry-pick", "mine", code=1)),
        "a cherry-pick is under way",
        _runs("cherry-pick", "--abort"),
    ),
    "a cherry-pick of several": Waiting(
        _all(
            CONFLICT,
            lambda place: git(place.tree, "cherry-pick", "mine", _on_mine(place), code=1),
            _runs("reset", "-q", "--hard"),
        ),
        "a cherry-pick or revert is under way",
        _runs("cherry-pick", "--abort"),
    ),
    "a revert": Waiting(
        _runs("revert", "--no-commit", "HEAD"),
        "a revert is under way",
        _runs("revert", "--abort"),
    ),
    "patches that are applied": Waiting(
        _all(CONFLICT, _patch_that_fails), "rebase or am is under way", _runs("am", "--abort")
    ),
    "a rebase": Waiting(
        _all(CONFLICT, _rebase_of_main),
        "a rebase of main is under way",
        _runs("rebase", "--abort"),
    ),
    "a rebase by patches": Waiting(
        _all(CONFLICT, lambda place: _rebase_of_main(place, "--apply")),
        "a rebase of main is under way",
        _runs("rebase", "--abort"),
    ),
    "a rebase of what stands on the base": Waiting(
        _all(CONFLICT, _rebase_that_updates_main),
        "a rebase of main is under way",
        _runs("rebase", "--abort"),
    ),
    "a base that is checked out twice": Waiting(
        _second_checkout,
        "checked out twice",
        _runs("worktree", "remove", "--force", "../second"),
    ),
    "a worktree of the base that is gone": Waiting(
        _checkout_elsewhere_that_is_gone, "git worktree prune", _runs("worktree", "prune")
    ),
    "signatures that are asked for, and a file that is what is to land": Waiting(
        _all(_runs("config", "merge.verifySignatures", "true"), _writes("added", "added\n")),
        "signature",
        _runs("config", "--unset", "merge.verifySignatures"),
    ),
}


@pytest.mark.parametrize("state", WAITING)
async def test_a_landing_waits_and_says_for_what(place: Place, state: str) -> None:
    case = WAITING[state]
    case.begin(place)
    before = place.see()
    for _ in range(2):
        end = await place.land()
        assert end.result is Landed.BLOCKED, end
        assert case.told in end.reason
        assert "\n" not in end.reason
        assert lost(before, place.see()) == []
    case.end(place)
    before = place.see()
    assert (await place.land()).result is Landed.LANDED
    on_base = git(place.tree, "symbolic-ref", "-q", "HEAD") == "refs/heads/main"
    paths = LANDED if on_base else set()
    assert lost_beside(before, place.see(), place.new, paths) == []


# -- what a landing passes by ----------------------------------------------------------------------


def _sparse(place: Place) -> None:
    git(place.tree, "sparse-checkout", "set", "--cone", "sub")


def _crlf(place: Place) -> None:
    git(place.tree, "config", "core.autocrlf", "true")
    write(place.tree, ".gitattributes", "kept text eol=crlf\n")
    commit(place.tree)
    for name in ("changed", "removed", "script", "kept"):
        (place.tree / name).unlink()
    git(place.tree, "checkout", "-q", ".")
    place.offer()


def _bisect(place: Place) -> None:
    for _ in range(4):
        commit(place.tree, "more")
    place.offer()
    git(place.tree, "bisect", "start", "-q", "HEAD", "HEAD~4")


def _stash(place: Place) -> None:
    write(place.tree, "changed", "put aside\n")
    git(place.tree, "stash", "-q")


def _rebase_of_another(place: Place) -> None:
    _branch_that_conflicts(place)
    git(place.tree, "checkout", "-q", "mine")
    git(place.tree, "rebase", "-q", "main", code=1)


def _merge_in_another(place: Place) -> None:
    _branch_that_conflicts(place)
    git(place.tree, "checkout", "-q", "mine")
    git(place.tree, "merge", "-q", "main", code=1)


def _hooks(place: Place) -> None:
    for name in ("post-merge", "reference-transaction", "post-checkout", "post-index-change"):
        hook = place.git_dir / "hooks" / name
        hook.write_text("#!/bin/sh\ntouch ran\nexit 1\n")
        hook.chmod(0o755)


def _submodule(place: Place) -> Path:
    other = place.root / "other.git"
    other.mkdir()
    git(other, "init", "-q", "-b", "main")
    write(other, "file", "1\n")
    commit(other)
    git(place.tree, "submodule", "--quiet", "add", str(other), "module")
    commit(place.tree, "with a submodule")
    place.offer()
    return place.tree / "module"


def _dirty_submodule(place: Place) -> None:
    module = _submodule(place)
    write(module, "file", "edited\n")
    write(module, "untracked", "mine\n")
    git(place.tree, "config", "submodule.recurse", "true")


def _moved_submodule(place: Place) -> None:
    commit(_submodule(place), "in the submodule")


def _submodule_that_is_not_there(place: Place) -> None:
    _submodule(place)
    git(place.tree, "submodule", "--quiet", "deinit", "module")


def _linked(place: Place) -> None:
    """The owner works on main in a linked worktree; the first one is on a branch of its own."""
    git(place.tree, "checkout", "-q", "-b", "mine")
    git(place.tree, "worktree", "add", "-q", "../second", "main")
    place.tree = place.root / "second"
    write(place.tree, "kept", "mine\n")


PASSED_BY: dict[str, Deed] = {
    "edits elsewhere": _all(_writes("kept"), _writes("sub/untracked")),
    "staged edits elsewhere": _all(
        _writes("kept"), _writes("fresh"), _runs("add", "-A"), _writes("kept", "and more\n")
    ),
    "removals elsewhere": _all(_runs("rm", "-q", "kept"), _removes("other/kept")),
    "a mode that was changed": lambda place: (place.tree / "kept").chmod(0o755),
    "a file that is meant to be added elsewhere": _all(
        _writes("fresh"), _runs("add", "-N", "fresh")
    ),
    "ignored files": _all(_writes(".git/info/exclude", "*.o\n"), _writes("folder/x.o")),
    "assume-unchanged elsewhere": _all(
        _runs("update-index", "--assume-unchanged", "kept"), _writes("kept")
    ),
    "skip-worktree elsewhere": _all(
        _runs("update-index", "--skip-worktree", "kept"), _writes("kept")
    ),
    "a stash": _stash,
    "another branch": _runs("checkout", "-q", "-b", "mine"),
    "a detached head": _runs("checkout", "-q", "--detach"),
    "a bisection": _bisect,
    "a rebase of another branch": _rebase_of_another,
    "a merge in another branch": _merge_in_another,
    "the base in a linked worktree": _linked,
    "line endings of one's own": _crlf,
    "hooks that refuse": _hooks,
    "a split index": _runs("update-index", "--split-index"),
    "an index of version 4": _runs("update-index", "--index-version", "4"),
    "an untracked cache": _all(
        _runs("update-index", "--untracked-cache"), _writes("sub/untracked"), _runs("status")
    ),
    "a commit graph": _runs("commit-graph", "write", "--reachable"),
    "packed refs": _runs("pack-refs", "--all"),
    "settings against a fast-forward": _all(
        _runs("config", "merge.ff", "false"),
        _runs("config", "merge.autoStash", "true"),
        _runs("config", "merge.renames", "false"),
        _runs("config", "branch.main.mergeOptions", "--no-commit --squash"),
        _writes("kept"),
    ),
    "a dirty submodule": _dirty_submodule,
    "a submodule that was moved": _moved_submodule,
    "a submodule that is not there": _submodule_that_is_not_there,
}


@pytest.mark.parametrize("state", PASSED_BY)
async def test_a_landing_changes_only_what_lands(place: Place, state: str) -> None:
    PASSED_BY[state](place)
    before = place.see()
    end = await place.land()
    assert end.result is Landed.LANDED, end
    on_base = git(place.tree, "rev-parse", "--abbrev-ref", "HEAD") == "main"
    paths = LANDED if on_base else set()
    assert lost_beside(before, place.see(), place.new, paths) == []
    if on_base and state != "line endings of one's own":
        assert (place.tree / "changed").read_text() == "new text\n"
        assert not (place.tree / "removed").exists()
        assert os.access(place.tree / "script", os.X_OK)


# -- how a repository may be laid out --------------------------------------------------------------


def _bare(place: Place) -> None:
    place.git_dir.rename(place.root / "bare.git")
    git(place.root / "bare.git", "config", "core.bare", "true")
    place.tree = place.git_dir = place.root / "bare.git"


def _behind_a_link(place: Place) -> None:
    (place.root / "link to it").symlink_to(place.tree)
    place.tree = place.root / "link to it"


def _files_elsewhere(place: Place) -> None:
    """`core.worktree`: the files are in another folder than `.git`."""
    (place.root / "files").mkdir()
    for path in [path for path in place.tree.iterdir() if path.name != ".git"]:
        path.rename(place.root / "files" / path.name)
    git(place.tree, "config", "core.worktree", str(place.root / "files"))


def _git_dir_elsewhere(place: Place) -> None:
    """`.git` is a file that names the folder."""
    git(place.tree, "init", "-q", "--separate-git-dir", str(place.root / "apart"))
    place.git_dir = place.root / "apart"


def _is_a_submodule(place: Place) -> None:
    outer = place.root / "outer"
    outer.mkdir()
    git(outer, "init", "-q", "-b", "main")
    git(outer, "submodule", "--quiet", "add", str(place.tree), "inner")
    place.tree, place.git_dir = outer / "inner", outer / ".git" / "modules" / "inner"


def _shallow(place: Place) -> None:
    git(place.root, "clone", "-q", "--depth=1", f"file://{place.tree}", "shallow")
    place.tree = place.root / "shallow"
    place.git_dir = place.tree / ".git"
    place.offer()


LAYOUTS: dict[str, Deed] = {
    "bare": _bare,
    "behind a link": _behind_a_link,
    "files elsewhere": _files_elsewhere,
    "git folder elsewhere": _git_dir_elsewhere,
    "itself a submodule": _is_a_submodule,
    "shallow": _shallow,
}


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_landing_finds_its_way(place: Place, layout: str) -> None:
    LAYOUTS[layout](place)
    held = layout != "bare"
    files = place.root / "files" if layout == "files elsewhere" else place.tree
    if held:
        write(files, "kept", "mine\n")
        write(files, "changed", "mine\n")
        before = place.see()
        assert (await place.land()).result is Landed.BLOCKED
        assert lost(before, place.see()) == []
        git(place.tree, "checkout", "-q", "--", str(files / "changed"))
    before = place.see()
    end = await place.land()
    assert end.result is Landed.LANDED, end
    assert lost_beside(before, place.see(), place.new, LANDED) == []
    if held:
        assert (files / "changed").read_text() == "new text\n"
        assert (files / "kept").read_text() == "mine\n"


@pytest.mark.parametrize("option", ["--filter=blob:none", "--filter=tree:0"])
async def test_a_partial_clone_is_told_of_and_lands(place: Place, option: str) -> None:
    git(place.tree, "config", "uploadpack.allowFilter", "true")
    git(place.root, "clone", "-q", option, f"file://{place.tree}", "partial")
    assert not inspect_repository(place.tree).partial
    place.tree = place.root / "partial"
    place.git_dir = place.tree / ".git"
    assert inspect_repository(place.tree).partial
    assert (await place.land()).result is Landed.LANDED
    assert git(place.tree, "status", "--porcelain") == ""


async def test_paths_as_long_as_the_system_takes_them_land(place: Place) -> None:
    place.offer({"/".join(["f" * 200] * 12 + ["x"]): "deep\n"})
    assert (await place.land()).result is Landed.LANDED
    assert git(place.tree, "status", "--porcelain") == ""


async def test_a_branch_that_stands_for_the_base_is_followed(place: Place) -> None:
    """Else the files of the branch that is checked out would stay behind it."""
    git(place.tree, "branch", "-m", "main", "trunk")
    git(place.tree, "symbolic-ref", "refs/heads/main", "refs/heads/trunk")
    place.offer()
    write(place.tree, "changed", "mine\n")
    assert (await place.land()).result is Landed.BLOCKED
    git(place.tree, "checkout", "-q", "changed")
    assert (await place.land()).result is Landed.LANDED
    assert git(place.tree, "rev-parse", "trunk") == place.new
    assert git(place.tree, "status", "--porcelain") == ""


async def test_a_submodule_that_lands_leaves_the_owners_files_in_it_alone(place: Place) -> None:
    module = _submodule(place)
    later = commit(module, "later")
    git(place.tree, "add", "module")
    git(place.tree, "commit", "-q", "-m", "later")
    place.new = git(place.tree, "rev-parse", "HEAD")
    git(place.tree, "push", "-q", str(place.integration), "+HEAD:main")
    git(place.tree, "reset", "-q", "--hard", place.old)
    git(module, "checkout", "-q", "HEAD~1")
    write(module, "file", "edited\n")
    git(place.tree, "config", "submodule.recurse", "true")
    assert (await place.land()).result is Landed.LANDED
    assert (module / "file").read_text() == "edited\n"
    assert git(module, "rev-parse", "HEAD") != later
    assert git(place.tree, "rev-parse", "main:module") == later


# -- the base is moved -----------------------------------------------------------------------------


MOVES: dict[str, Deed] = {
    "forward": _runs("commit", "-q", "--allow-empty", "-m", "owner's"),
    "amended": _runs("commit", "-q", "--amend", "-m", "amended"),
    "backwards": _runs("reset", "-q", "--hard", "HEAD~1"),
    "to another history": _all(
        _runs("checkout", "-q", "--orphan", "fresh"),
        _runs("commit", "-q", "-m", "fresh"),
        _runs("branch", "-q", "-M", "fresh", "main"),
    ),
}


@pytest.mark.parametrize("checked_out", [True, False])
@pytest.mark.parametrize("move", MOVES)
async def test_a_base_that_was_moved_stays_where_its_owner_put_it(
    place: Place, move: str, checked_out: bool
) -> None:
    MOVES[move](place)
    if not checked_out:
        git(place.tree, "checkout", "-q", "--detach")
    before = place.see()
    end = await place.land()
    assert end.result is Landed.MOVED, end
    assert lost(before, place.see()) == []


@pytest.mark.parametrize("how", [("branch", "-q", "-D", "main"), ("branch", "-m", "main", "new")])
async def test_a_base_that_is_gone_is_not_made_again(place: Place, how: tuple[str, ...]) -> None:
    git(place.tree, "checkout", "-q", "--detach")
    git(place.tree, *how)
    before = place.see()
    assert (await place.land()).result is Landed.MOVED
    assert lost(before, place.see()) == []


# -- filters of the owner's ------------------------------------------------------------------------

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n"


def _has_large_files(place: Place) -> None:
    """Files that a filter of the owner's stands for, as git-lfs sets it up for each user."""
    write(place.tree, ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    write(place.tree, "old.bin", _POINTER.format("0" * 64))
    commit(place.tree, "large files")
    place.offer({name: _POINTER.format("1" * 64) for name in ("a/new.bin", "old.bin", "z.bin")})


async def test_large_files_land_as_pointers_where_nothing_is_set_up(place: Place) -> None:
    _has_large_files(place)
    assert (await place.land()).result is Landed.LANDED
    assert (place.tree / "old.bin").read_text() == _POINTER.format("1" * 64)
    assert git(place.tree, "status", "--porcelain") == ""


async def test_large_files_are_written_by_the_owners_filter(place: Place) -> None:
    _has_large_files(place)
    git(place.tree, "config", "filter.lfs.smudge", "echo large")
    git(place.tree, "config", "filter.lfs.clean", f"printf '{_POINTER.format('1' * 64)}'")
    assert (await place.land()).result is Landed.LANDED
    assert (place.tree / "z.bin").read_text() == "large\n"


@pytest.mark.parametrize("kind", ["smudge", "process"])
async def test_a_filter_that_is_missing_is_told_and_the_landing_comes_through_when_it_is_there(
    place: Place, kind: str
) -> None:
    _has_large_files(place)
    place.offer({"z.bin": _POINTER.format("1" * 64)})  # written last of all
    write(place.tree, "kept", "mine\n")
    git(place.tree, "config", f"filter.lfs.{kind}", "no-such-program")
    git(place.tree, "config", "filter.lfs.clean", "cat")
    git(place.tree, "config", "filter.lfs.required", "true")
    for _ in range(3):
        end = await place.land()
        assert end.result is Landed.BLOCKED
        assert "no-such-program" in end.reason or "filter 'lfs' failed" in end.reason
    git(place.tree, "config", "--unset", f"filter.lfs.{kind}")
    git(place.tree, "config", "filter.lfs.smudge", "cat")
    end = await place.land()
    assert end.result is Landed.LANDED, end
    assert git(place.tree, "status", "--porcelain") == " M kept"
