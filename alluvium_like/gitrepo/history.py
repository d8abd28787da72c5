"""Questions about what the daemon's repository holds; nothing here writes.

What a commit says never changes, so it is remembered.
"""

import operator
import re
from dataclasses import dataclass, field
from itertools import dropwhile, takewhile
from pathlib import Path

from alluvium_like.errors import GitFailed
from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo.objects import (
    Commit,
    diff_trees,
    parse_commit,
    read_commit,
    read_header,
    read_objects,
)
from alluvium_like.gitrepo.runner import Git, Identity, null_split
from alluvium_like.gitrepo.workshop import is_object_id
from alluvium_like.messages import TRAILER

_BAD_OBJECT = 128
_MOST_REMEMBERED = 10_000
_STEPS = 100
_LARGEST_SHOWN = 1 << 20
_PATCH = ("-r", "-p", "--no-ext-diff", "--no-textconv")
_PLAIN_AUTHOR = re.compile(
    rb"author ([^<>\s](?:[^<>\n]*[^<>\s])?) <([^<>\s]*)> "
    rb"(0|[1-9][0-9]{0,9}) (\+[0-9]{4}|-(?!0000)[0-9]{4})"
)
_BLANKS = b" \t\r"


@dataclass(frozen=True, slots=True)
class History:
    """The history in one bare repository."""

    git: Git
    path: Path
    known: dict[str, Commit] = field(default_factory=dict, compare=False, repr=False)

    async def commit(self, commit: str) -> Commit:
        """Return the tree and the parents of a commit by its full id. Raises GitFailed."""
        if commit not in self.known:
            data = await read_commit(self.git, self.path, commit)
            if len(self.known) >= _MOST_REMEMBERED:
                self.known.clear()
            self.known[commit] = parse_commit(data)
        return self.known[commit]

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
        """Tell whether `commit` has `ancestor` in its history.

        It mostly is one of the last landings, a few steps along the first parents.
        """
        if await self._steps_to(ancestor, commit) is not None:
            return True
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
        if await self._adds_only(base, tip):
            plain = _plain_author(await read_commit(self.git, self.path, tip))
            if plain is not None:
                return [plain]
        return await self.logged_authors(base, tip)

    async def logged_authors(self, base: str, tip: str) -> list[tuple[Identity, str]]:
        """Return the same for any branch, as `log` tells it."""
        done = await self._run(
            "log", "-z", "--format=%an%n%ae%n%ad%n%s", "--date=raw", tip, f"^{base}"
        )
        found = []
        for entry in null_split(done.stdout):
            name, email, date, subject, *_ = [*entry.split("\n"), "", "", "", ""]
            found.append((Identity(name, email, date), subject))
        return found

    async def diff(self, old: str, new: str) -> str:
        """Return the patch between two commits, for people. Raises GitFailed."""
        trees = [(await self.commit(commit)).tree for commit in (old, new)]
        patch = await diff_trees(self.git, self.path, _PATCH, *trees)
        return patch.decode(errors="replace")

    async def file_text(self, tree: str, path: str, limit: int) -> str:
        """Return the beginning of one file of a tree, for people; of a large one only that it is.

        Git gives the whole of it or nothing.
        """
        if "\n" in path:
            return ""
        try:
            header = await read_header(self.git, self.path, f"{tree}:{path}")
            if header is None or header.kind != "blob":
                return ""
            if header.size > _LARGEST_SHOWN:
                return f"(too large to be shown: {header.size} bytes)"
            (found,) = await read_objects(self.git, self.path, [header.id])
        except GitFailed:  # a path that is none
            return ""
        return "" if found is None else found.data[:limit].decode(errors="replace")

    async def _steps_to(self, ancestor: str, commit: str) -> list[str] | None:
        """Return the commits from `commit` down to `ancestor`, if first parents soon lead there."""
        steps: list[str] = []
        if not is_object_id(ancestor) or not is_object_id(commit):
            return None
        while commit != ancestor:
            steps.append(commit)
            try:
                parents = (await self.commit(commit)).parents
            except GitFailed:  # not there, or the history is cut off here
                return None
            if not parents or len(steps) == _STEPS:
                return None
            commit = parents[0]
        return steps

    async def _adds_only(self, base: str, tip: str) -> bool:
        """Tell whether `tip` is the one commit that it adds to `base`, where that is plain."""
        if not is_object_id(tip):
            return False
        parents = (await self.commit(tip)).parents
        steps = await self._steps_to(parents[0], base) if len(parents) == 1 else None
        if steps is None or tip in steps:
            return False
        return all([len((await self.commit(step)).parents) == 1 for step in steps])

    async def _run(self, *args: str) -> Completed:
        return await self.git.run(*args, git_dir=self.path)


def _plain_author(data: bytes) -> tuple[Identity, str] | None:
    """Return author and subject as `log` tells them, None where it would mend something."""
    header, _, message = data.partition(b"\n\n")
    lines = header.split(b"\n")
    people = [line for line in lines if line.startswith(b"author ")]
    plain = _PLAIN_AUTHOR.fullmatch(people[0]) if len(people) == 1 else None
    if plain is None or b"\0" in data or any(line.startswith(b"encoding") for line in lines):
        return None
    rows = [line.rstrip(_BLANKS) for line in message.split(b"\n")]
    name, email, time, zone = (part.decode(errors="surrogateescape") for part in plain.groups())
    paragraph = takewhile(bool, dropwhile(operator.not_, rows))
    subject = b" ".join(paragraph).decode(errors="surrogateescape")
    return Identity(name, email, f"{time} {zone}"), subject
