"""How a merge without a work tree ends, and whether what it left open was resolved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alluvium_like.gitrepo.runner import Git, null_split


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge without conflict."""

    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A merge that two sides contradict each other in; `tree` holds the files with markers."""

    tree: str
    paths: tuple[str, ...]


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
        given, found = [await _blobs(git, store, t, paths) for t in (conflict.tree, tree)]
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


async def _blobs(git: Git, store: Path, tree: str, paths: Sequence[str]) -> dict[str, str]:
    done = await git.run(
        "--literal-pathspecs", "ls-tree", "-r", "-z", tree, "--", *paths, git_dir=store
    )
    rows = (row.split("\t", 1) for row in null_split(done.stdout))
    return {path: facts for facts, path in rows}


async def _contains(git: Git, store: Path, ancestor: str, commit: str) -> bool:
    done = await git.run(
        "merge-base", "--is-ancestor", ancestor, commit, git_dir=store, accept=frozenset({0, 1})
    )
    return done.code == 0
