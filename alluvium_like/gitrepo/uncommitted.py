"""What an agent left uncommitted, read through the daemon's own GIT_DIR and index.

Nothing that the agent's Git says counts. Repositories inside the tree are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo.contents import GITLINK
from alluvium_like.gitrepo.hazards import find_obstacle
from alluvium_like.gitrepo.private import but_for
from alluvium_like.gitrepo.runner import Git, first_line, null_split
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.trouble import trouble_of


@dataclass(frozen=True, slots=True)
class Files:
    """The tree of the files as they lie."""

    tree: str
    problem: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Door:
    """Our way to look at a worktree: our repository and index, the agent's files."""

    git: Git
    store: Path
    workshop: Workshop
    private: Sequence[str]

    async def run(self, *args: str, stdin: bytes | None = None) -> Completed:
        """Run git over the files. Raises GitFailed."""
        return await self.git.run(
            *args,
            stdin=stdin,
            git_dir=self.store,
            work_tree=self.workshop.tree,
            index=self.workshop.index,
        )

    async def tree(self) -> str:
        """Return the tree of the files as they lie. Raises GitFailed."""
        await self.run("add", "--all", *but_for(self.private))
        return first_line(await self.run("write-tree"))


async def read_files(
    git: Git,
    workshop: Workshop,
    store: Path,
    start: str,
    commit: str,
    committed: str,
    private: Sequence[str],
) -> Files:
    """Read the files that lie on `commit`, whose tree is `committed`, through our own index.

    It knows them as they were given out, so only what was touched is read again, and nothing that
    the agent's Git says counts. Paths that are `private` are passed over.
    """
    obstacle = await anyio.to_thread.run_sync(find_obstacle, workshop)
    if obstacle:
        return Files(committed, problem=obstacle)
    door = _Door(git, store, workshop, private)
    try:
        tree = await door.tree()
        if tree != committed and commit != start:
            await door.run("read-tree", "--reset", commit)  # for what only `add --force` takes in
            tree = await door.tree()
    except GitFailed as error:
        if trouble_of(error):
            raise
        unreadable = f"the agent's files cannot be committed: {error}"
        return Files(committed, problem=unreadable)
    if tree == committed:
        return Files(tree)
    tree, nested = await _without_nested_repositories(door, committed, tree)
    notes = tuple(f"{path} is a Git repository of its own: left out" for path in nested)
    return Files(tree, notes=notes)


async def _without_nested_repositories(door: _Door, old: str, new: str) -> tuple[str, list[str]]:
    """Leave out what is a repository of its own: its files are not here.

    One that the agent cloned into its tree goes; a submodule of the owner's stays as it was.
    """
    done = await door.run("diff-tree", "-r", "-z", "--no-renames", old, new)
    parts = null_split(done.stdout)
    script: list[str] = []
    nested: list[str] = []
    for meta, path in zip(parts[::2], parts[1::2], strict=True):
        old_mode, new_mode, before, _, _ = meta.removeprefix(":").split()
        if new_mode == GITLINK or (old_mode == GITLINK and new_mode != "000000"):
            nested.append(path)
            kept = old_mode == GITLINK
            script.append(f"{GITLINK if kept else 0} {before}\t{path}\0")
    if not nested:
        return new, []
    lines = "".join(script).encode(errors="surrogateescape")
    await door.run("update-index", "-z", "--index-info", stdin=lines)
    return first_line(await door.run("write-tree")), nested
