"""What an attempt is told and leaves behind, for the agents that come with the daemon.

The input is looked at with lstat and never through links.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from alluvium_like.agents.patches import open_regular, printable

_MAX_REVISION_BYTES = 1024 * 1024
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class Job(NamedTuple):
    """What the daemon told this attempt; `base` is empty when it named no base branch."""

    input: Path
    agent_dir: Path
    worktree: Path
    base: str
    answered: bool

    @classmethod
    def told_by(cls, environment: Mapping[str, str]) -> "Job":
        """Read the job from the environment. Raises KeyError for what is missing."""
        return cls(
            Path(environment["ALLUVIUM_TASK_DIR"]) / "input",
            Path(environment["ALLUVIUM_AGENT_DIR"]),
            Path(environment["ALLUVIUM_WORKTREE"]),
            environment.get("ALLUVIUM_BASE_BRANCH", ""),
            environment.get("ALLUVIUM_ANSWERED") == "1",
        )

    def write(self, name: str, text: str) -> None:
        """Write one file of the agent's folder."""
        (self.agent_dir / name).write_text(text, encoding="utf-8", errors="backslashreplace")

    def ask(self, summary: str, question: str) -> None:
        """Leave a question for a person; nothing of this attempt lands before the answer."""
        self.write("needs_human.md", question)
        self.conclude("needs_human", summary, "\nNothing was committed.\n")

    def conclude(self, status: str, summary: str, details: str = "") -> None:
        """Write how it went."""
        self.write("result.md", f"# Result\n\n{summary}\n{details}")
        result = {"status": status, "summary": summary}
        self.write("result.json", json.dumps(result, indent=2) + "\n")

    def revision_request(self) -> str | None:
        """Return the daemon's request, None when there is none. Raises OSError."""
        try:
            with open_regular(self.agent_dir / "revision_request.md") as stream:
                return stream.read(_MAX_REVISION_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def name_of(self, path: Path) -> str:
        """Return how a file of the input is called in texts."""
        return printable(str(path.relative_to(self.input)))


class Found(NamedTuple):
    """One entry of the input, as lstat saw it."""

    path: Path
    status: os.stat_result

    @property
    def kind(self) -> str:
        """What the entry is, in one word."""
        return _KINDS.get(stat.S_IFMT(self.status.st_mode), "unknown")


def look_at(folder: Path) -> Iterator[Found]:
    """Walk the input without following links; what a dropped `.git` holds is not looked into."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                found = Found(Path(entry.path), entry.stat(follow_symlinks=False))
                yield found
                if found.kind == "folder" and entry.name != ".git":
                    waiting.append(found.path)
