"""A small life for exhaustive sweeps: one item, dropped, claimed, worked on, tested, landed, done.

Nothing in it waits for a clock or for a person: `run-once` begins with an empty store and ends when
nothing is left to do. Beds are copies of one workspace in which no daemon has run yet. Nothing runs
in a box: who strikes from within its namespace reaches nobody outside, nor its first process.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from invariants import Drop, Life, violations

import alluvium_like
from alluvium_like.store.reader import StoreReader
from alluvium_like.workspace import Workspace

PATIENCE_SECONDS = 60.0
_AGENT = """\
#!/bin/sh
set -eu
echo work > "$ALLUVIUM_TASK_ID.txt"
git add -A
git commit -q -m "Add the work"
"""
_CONFIG = """\
[agent]
command = ["{root}/agent.sh"]
retries = 1
retry_delay_seconds = 0
timeout_seconds = 60

[integration]
base_branch = "main"
run_tests = ["git rev-parse 'HEAD^{{tree}}' >> '{root}/tested'"]

[safety]
inbox_settle_seconds = 0
shutdown_grace_seconds = 1

[retention]
min_free_bytes = 0

[sandbox]
mode = "none"
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """How one command of the program ended; `code` is None where it was given up as hanging."""

    pid: int
    code: int | None
    said: str

    @property
    def is_clear(self) -> bool:
        """Tell whether it succeeded without a word, or failed with one line for a person."""
        lines = self.said.splitlines()
        told = len(lines) == 1 and lines[0].startswith("alluvium-like: ")
        return (self.code == 0 and not lines) or (self.code == 1 and told)


class OneTask:
    """One workspace, alone in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = Workspace(root / "ws")
        self.dropped: list[Drop] = []
        self._item = self.workspace.inbox / "wish"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(Path(alluvium_like.__file__).parents[1]),  # the one that checks
        }

    def make(self) -> "OneTask":
        """Initialise the workspace and drop the item; no daemon has run then."""
        self.root.mkdir()
        done = self.run("init", str(self.workspace.root))
        assert done.code == 0, done.said
        (self.root / "agent.sh").write_text(_AGENT)
        (self.root / "agent.sh").chmod(0o755)
        self._configure()
        self._item.write_text("please")
        self.dropped.append(Drop.of(self._item))
        return self

    def copy(self, root: Path) -> "OneTask":
        """Return a bed at `root` that is as this one is now."""
        shutil.copytree(self.root, root, symlinks=True)
        other = OneTask(root)
        other.dropped += self.dropped
        other._configure()
        return other

    def run(self, *words: str, more: dict[str, str] | None = None) -> Ran:
        """Run a command of the program to its end."""
        where = [] if words[0] == "init" else ["-C", str(self.workspace.root)]
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "alluvium_like", *where, *words],
            env=self.environment | (more or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as child:
            try:
                _, said = child.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                said = f"still ran after {PATIENCE_SECONDS:g} s: {child.communicate()[1]}"
                return Ran(child.pid, None, said)
        return Ran(child.pid, child.returncode, said)

    def run_once(self, more: dict[str, str] | None = None) -> Ran:
        """Let a daemon do all that there is to do, with `more` in its environment."""
        return self.run("run-once", more=more)

    def faults(self) -> list[str]:
        """Return what is wrong after the last run, in words: invariants, then the end state."""
        repo, tested = self.workspace.repo, self.root / "tested"
        life = Life(self.workspace.root, self.dropped, repo, tested=tested)
        return [*violations(life), *self._unlike_the_end()]

    def _unlike_the_end(self) -> list[str]:
        with StoreReader(self.workspace.database) as store:
            tasks = store.tasks()
        if len(tasks) != 1:
            return [f"there are {len(tasks)} tasks"]
        (task,) = tasks
        if (task.state, task.outcome) != ("done", "merged"):
            return [f"the task is {task.state}: {task.reason}"]
        git = ["git", "-C", str(self.workspace.repo)]
        argv = [*git, "show", f"main:{task.id}.txt"]
        shown = subprocess.run(argv, env=self.environment, capture_output=True, check=False)
        status = subprocess.run(
            [*git, "status", "--porcelain"], env=self.environment, capture_output=True, check=False
        )
        return [
            *(["main lacks the work"] if shown.stdout != b"work\n" else []),
            *([f"left in repo/: {status.stdout!r}"] if status.stdout or status.returncode else []),
        ]

    def _configure(self) -> None:
        self.workspace.config_file.write_text(_CONFIG.format(root=self.root))
