"""Questions about what the daemon's repository holds; nothing here writes."""

from dataclasses import dataclass
from pathlib import Path

from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo.runner import Git, Identity, null_split
from alluvium_like.messages import TRAILER

_BAD_OBJECT = 128


@dataclass(frozen=True, slots=True)
class History:
    """The history in one bare repository."""

    git: Git
    path: Path

    async def landed_tasks(self, old: str, new: str) -> dict[str, str]:
        """Return (task id to commit) of what the base gained, found by trailer."""
        done = await self.git.run(
            "log",
            "--first-parent",
            "-z",
            f"--format=%H %(trailers:key={TRAILER},valueonly,separator=%x20)",
            f"{old}..{new}",
            git_dir=self.path,
            accept=frozenset({0, _BAD_OBJECT}),
        )
        found: dict[str, str] = {}
        for entry in null_split(done.stdout):
            commit, *tasks = entry.split()
            if len(tasks) == 1:
                found[tasks[0]] = commit
        return found

    async def contains(self, ancestor: str, commit: str) -> bool:
        """Tell whether `commit` has `ancestor` in its history."""
        done = await self.git.run(
            "merge-base",
            "--is-ancestor",
            ancestor,
            commit,
            git_dir=self.path,
            accept=frozenset({0, 1, _BAD_OBJECT}),
        )
        return done.code == 0

    async def authors(self, base: str, tip: str) -> list[tuple[Identity, str]]:
        """Return author and subject of the commits that a branch adds, newest first."""
        done = await self._run(
            "log", "-z", "--format=%an%n%ae%n%ad%n%s", "--date=raw", tip, f"^{base}"
        )
        found = []
        for entry in null_split(done.stdout):
            name, email, date, subject, *_ = [*entry.split("\n"), "", "", "", ""]
            found.append((Identity(name, email, date), subject))
        return found

    async def diff(self, old: str, new: str) -> str:
        """Return the patch between two commits, for people."""
        done = await self._run("diff-tree", "-p", "--no-ext-diff", "--no-textconv", old, new)
        return done.stdout.decode(errors="replace")

    async def file_text(self, tree: str, path: str, limit: int) -> str:
        """Return the beginning of one file of a tree, for people."""
        done = await self.git.run(
            "cat-file", "blob", f"{tree}:{path}", git_dir=self.path, accept=frozenset({0, 128})
        )
        return done.stdout[:limit].decode(errors="replace")

    async def _run(self, *args: str) -> Completed:
        return await self.git.run(*args, git_dir=self.path)
