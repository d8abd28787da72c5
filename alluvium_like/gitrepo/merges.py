"""Merging without a work tree: how it ends, and whether what it left open was resolved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alluvium_like import messages
from alluvium_like.errors import GitFailed, RepositoryError
from alluvium_like.gitrepo.objects import entries_at
from alluvium_like.gitrepo.runner import Git, null_split
from alluvium_like.gitrepo.workshop import is_object_id

_UNRELATED = "unrelated histories"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge without conflict."""

    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A merge that two sides contradict each other in; `tree` holds the files with markers."""

    tree: str
    paths: tuple[str, ...]


async def merge_commits(git: Git, store: Path, ours: str, theirs: str) -> Merged | Conflict:
    """Merge two commits. Raises GitFailed, RepositoryError where they have no history in common.

    Exit 1 means a conflict or a bad name; only the first prints a tree.
    """
    try:
        done = await git.run(
            *("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs),
            git_dir=store,
            accept=frozenset({0, 1}),
        )
    except GitFailed as error:
        if _UNRELATED not in error.stderr:
            raise
        raise RepositoryError(messages.unrelated(ours, theirs)) from error
    parts = null_split(done.stdout)
    if not parts or not is_object_id(parts[0]):
        raise GitFailed(["merge-tree", ours, theirs], done.code, done.stderr.decode())
    return Conflict(parts[0], tuple(parts[1:])) if done.code else Merged(parts[0])


async def unresolved_in(
    git: Git, store: Path, tree: str, commit: str, merge: str, conflict: Conflict | None
) -> str:
    """Name what is still as the conflict was given out: untouched files, or markers left in them.

    A file that was not touched counts as resolved only where the agent itself committed the merge:
    choosing a side of a binary is a decision, doing nothing is none.
    """
    if conflict is None:
        return ""
    paths = conflict.paths
    left = set(await _with_markers(git, store, tree, paths))
    if not left and not await _contains(git, store, merge, commit):
        given, found = [await entries_at(git, store, t, paths) for t in (conflict.tree, tree)]
        left = {path for path in paths if given.get(path) == found.get(path)}
    return f"the conflict was not resolved in {', '.join(sorted(left))}" if left else ""


async def _with_markers(git: Git, store: Path, tree: str, paths: Sequence[str]) -> list[str]:
    done = await git.run(
        *("--literal-pathspecs", "grep", "-z", "--name-only", "-E", "-e", "^<{7,}( |$)"),
        *(tree, "--", *paths),
        git_dir=store,
        accept=frozenset({0, 1}),
    )
    return [name.removeprefix(f"{tree}:") for name in null_split(done.stdout)]


async def _contains(git: Git, store: Path, ancestor: str, commit: str) -> bool:
    done = await git.run(
        "merge-base", "--is-ancestor", ancestor, commit, git_dir=store, accept=frozenset({0, 1})
    )
    return done.code == 0
