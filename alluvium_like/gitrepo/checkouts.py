"""Where the owner has the base checked out, and what is unfinished there.

Read from git's own small files: a process that lists the worktrees costs more than a small
landing's whole checkout. What is laid out in another way than git does by itself is left to git.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio.to_thread

from alluvium_like.gitrepo.runner import Git, null_split
from alluvium_like.gitrepo.workshop import is_object_id, is_real_folder, read_untrusted

_CONFIG_BYTES = 1_000_000
_ODD_CONFIG = re.compile(r"worktree|include|refstorage|\bbare\b(?!\s*=\s*false\b)", re.IGNORECASE)
_DEEPEST_LINK = 5
_SYMBOLIC = "ref: "

_UNFINISHED: Final = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase or am",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "sequencer": "cherry-pick or revert",
}
"""What git keeps in its folder while something is unfinished, and what it is called."""


class NotPlain(Exception):
    """The repository is laid out in a way that only git itself should read."""


def followed(git_dir: Path, ref: str) -> str:
    """Return the branch that a branch stands for: itself, mostly; blocks."""
    for _ in range(_DEEPEST_LINK):
        text = read_untrusted(git_dir / ref)
        if not text.startswith(_SYMBOLIC):
            break
        ref = text.removeprefix(_SYMBOLIC)
    return ref


def rebased_in(git_dir: Path, ref: str) -> bool:
    """Look for a rebase that ends in `ref`: no worktree is reported to hold it then; blocks."""
    return any(
        read_untrusted(folder / kind / "head-name") == ref
        or ref in read_untrusted(folder / kind / "update-refs", _CONFIG_BYTES).split()
        for folder in (git_dir, *git_dir.glob("worktrees/*"))
        for kind in ("rebase-merge", "rebase-apply")
    )


def waits_for(git_dir: Path, trees: Sequence[Path]) -> str:
    """Tell why the worktrees that hold the base cannot be brought forward now; blocks.

    A git that is told to go on or to abort counts on the branch being where it left it.
    """
    if len(trees) > 1:
        return f"the base is checked out twice, in {trees[0]} and in {trees[1]}; leave one of them"
    for tree in trees:
        if not tree.is_dir():
            return (
                f"the base is checked out in {tree}, which is not there; bring it back, "
                "or let git forget it with 'git worktree prune'"
            )
        admin = _admin_of(tree) or git_dir
        for what in unfinished_in(admin):
            return f"a {what} is under way in {tree}; finish or abort it"
    return ""


def unfinished_in(admin: Path) -> list[str]:
    """Return what git has not finished in a worktree with this folder of git's own; blocks."""
    return [what for name, what in _UNFINISHED.items() if (admin / name).exists()]


def places_of(git_dir: Path) -> list[Path]:
    """Return the folders in which a git may be at work on the repository, without links; blocks."""
    links = [read_untrusted(link) for link in git_dir.glob("worktrees/*/gitdir")]
    trees = [Path(link).parent for link in links if link]
    if git_dir.name == ".git":
        trees.append(git_dir.parent)
    return [place.resolve() for place in (git_dir, *trees)]


def locks_of(git_dir: Path, ref: str, tree: Path) -> list[Path]:
    """Return the locks there are on what a merge in `tree` moves last; blocks.

    Git meets them only when the files are written, and would leave these behind without the ref.
    """
    locks = (git_dir / f"{ref}.lock", (_admin_of(tree) or git_dir) / "HEAD.lock")
    return [lock for lock in locks if lock.exists()]


async def checkouts_of(git: Git, git_dir: Path, ref: str, tree: Path) -> list[Path]:
    """Return the worktrees that have `ref` checked out. Raises GitFailed.

    `tree` is where the owner says the files are: a repository whose folder is kept apart from them
    does not know it itself.
    """
    try:
        return await anyio.to_thread.run_sync(read_checkouts, git_dir, ref)
    except NotPlain:
        listed = await _listed(git, git_dir, ref)
    apart = git_dir in listed and _admin_of(tree) == git_dir
    return [tree if apart and path == git_dir else path for path in listed]


def read_checkouts(git_dir: Path, ref: str) -> list[Path]:
    """Return the worktrees that have `ref` checked out, as the HEAD files say. Raises NotPlain."""
    config = read_untrusted(git_dir / "config", _CONFIG_BYTES)
    if git_dir.name != ".git" or not config or _ODD_CONFIG.search(config):
        raise NotPlain
    if (git_dir / "reftable").exists():  # then HEAD is a file that says nothing
        raise NotPlain
    found = [git_dir.parent] if _head_of(git_dir) == ref else []
    for admin in sorted(git_dir.glob("worktrees/*")):
        if _head_of(admin) == ref:
            link = Path(read_untrusted(admin / "gitdir"))
            if not link.is_absolute() or link.name != ".git":
                raise NotPlain
            found.append(link.parent)
    return found


async def _listed(git: Git, git_dir: Path, ref: str) -> list[Path]:
    done = await git.run("worktree", "list", "--porcelain", "-z", git_dir=git_dir)
    found, worktree = [], ""
    for field in null_split(done.stdout):
        key, _, value = field.partition(" ")
        if key == "worktree":
            worktree = value
        elif key == "branch" and value == ref:
            found.append(Path(worktree))
    return found


def _head_of(admin: Path) -> str:
    text = read_untrusted(admin / "HEAD")
    if is_object_id(text):
        return ""
    if not text.startswith("ref: refs/"):
        raise NotPlain
    return text.removeprefix(_SYMBOLIC)


def _admin_of(tree: Path) -> Path | None:
    """Return the git folder of one worktree, None where its link says nothing."""
    link = tree / ".git"
    if is_real_folder(link):
        return link
    text = read_untrusted(link)
    return Path(tree, text.removeprefix("gitdir: ")) if text.startswith("gitdir: ") else None
