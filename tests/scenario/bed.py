"""A test bed: a real workspace, a real daemon process, real git, and waiting by events."""

import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from alluvium_like.store.reader import StoreReader
from alluvium_like.surface.status import read_status
from alluvium_like.workspace import Workspace

PATIENCE_SECONDS = 60.0
AGENT_HEAD = "#!/bin/sh\nset -eu\n"
PROGRAM = (sys.executable, "-P", "-m", "alluvium_like")

COMMIT = """
echo work > "$ALLUVIUM_TASK_ID.txt"
git add -A
git commit -q -m "Add the work"
"""
# A child in a session of its own, twice removed, that does not end when it is asked to.
STUBBORN_CHILD = """
setsid setsid sh -c 'trap "" TERM
    echo $$ > "$ALLUVIUM_AGENT_DIR/outputs/child"; while :; do sleep 0.05; done' &
"""
HOLD = """
echo $$ > "$ALLUVIUM_AGENT_DIR/outputs/agent"
while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
"""


class Witness:
    """Tells whether one process lives, and never takes another with its number for it."""

    @classmethod
    def told(cls, number: int, mark: str, known: Sequence["Witness"] = ()) -> "Witness":
        """Know a process by the number that it told, which is that of its box, and by a text in
        its environment, such as the id of its task; it is none of those that are `known`.
        """
        others = {witness.pid for witness in known}
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                (numbers,) = re.findall(r"^NSpid:(.*)$", status.read_text(), re.MULTILINE)
                environment = (status.parent / "environ").read_bytes()
                pid = int(status.parent.name)
                same = int(numbers.split()[-1]) == number and mark.encode() in environment
                if same and pid not in others:
                    return cls(pid)
        raise ProcessLookupError(f"no process {number} of {mark}")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def alive(self) -> bool:
        return not select.select([self._fd], [], [], 0)[0]

    def ends_within(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], seconds)[0])


class Bed:
    """One workspace at `root` with a script as its agent.

    Agents and tests run in a box where one can be made; what they share with each other and with
    the test lies in `open`. Where `unboxed`, they have the rights of the daemon.
    """

    patience = PATIENCE_SECONDS

    def __init__(self, root: Path, *, unboxed: bool = False) -> None:
        self.root = root
        self.unboxed = unboxed
        self.open = root.parent / "open"
        self.open.mkdir()
        self.home = root.parent / "home"
        self.home.mkdir()
        (self.home / ".gitconfig").write_text("[user]\n\tname = Owner\n\temail = owner@example\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
        }

    # -- the command line ----------------------------------------------------------------------

    def cli(self, *args: str, code: int = 0, stdin: str | None = None) -> str:
        """Run one command and return its output; its exit code must be `code`."""
        done = self.run("-C", str(self.root), *args, stdin=stdin)
        assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def run(
        self, *args: str | bytes, cwd: Path | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command as it is, whatever its end; a traceback is never one."""
        done = subprocess.run(
            [*PROGRAM, *args],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=cwd,
            input=stdin,
            timeout=self.patience,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def spawn(self, *args: str) -> subprocess.Popen[str]:
        """Begin one command; its output is piped."""
        return subprocess.Popen(
            [*PROGRAM, "-C", str(self.root), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def json(self, *args: str) -> Any:
        return json.loads(self.cli(*args, "--json"))

    # -- making --------------------------------------------------------------------------------

    def make(self, agent: str = "exit 0\n", config: str = "", repo: Path | None = None) -> "Bed":
        """Initialise the workspace; `agent` is a shell script run in the worktree."""
        more = [] if repo is None else ["--repo", str(repo)]
        self.cli("init", str(self.root), *more)
        self.set_agent(agent)
        self.configure(config, repo=repo)
        return self

    def set_agent(self, script: str) -> None:
        path = self.root.parent / "agent.sh"
        path.write_text(AGENT_HEAD + textwrap.dedent(script))
        path.chmod(0o755)

    def configure(self, more: str = "", repo: Path | None = None) -> None:
        """Write config.toml; `more` may override any of the quick defaults, table by table."""
        base: dict[str, Any] = {
            "repo": {"path": str(repo)} if repo else {},
            "agent": {
                "command": [str(self.root.parent / "agent.sh")],
                "retry_delay_seconds": 0,
                "retries": 0,
            },
            "integration": {"base_branch": "main"},
            "safety": {"inbox_settle_seconds": 0, "shutdown_grace_seconds": 5},
            "sandbox": {"writable": [str(self.open)]},
        }
        if self.unboxed:
            base["sandbox"] = {"mode": "none"}
        for table, keys in tomllib.loads(textwrap.dedent(more)).items():
            base.setdefault(table, {}).update(keys)
        (self.root / "config.toml").write_text(tomli_w.dumps(base))

    # -- the daemon ----------------------------------------------------------------------------

    def start(self) -> int:
        self.cli("start")
        pid = self.json("status")["daemon"]["pid"]
        assert isinstance(pid, int)
        return pid

    def stop(self) -> None:
        self.cli("stop", "--force", "--timeout", "30")

    def kill(self) -> None:
        """Kill -9 the daemon and wait until it is gone."""
        pid = self.json("status")["daemon"]["pid"]
        gone = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        try:
            assert select.select([gone], [], [], PATIENCE_SECONDS)[0]
        finally:
            os.close(gone)

    # -- work ----------------------------------------------------------------------------------

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def repo(self) -> Path:
        return self.root / "repo"

    def drop(self, name: str, text: str = "please") -> None:
        """Publish a file in the inbox by rename, as producers should."""
        part = self.inbox / f".{name}.tmp"
        part.write_text(text)
        part.rename(self.inbox / name)

    def task(self, name: str) -> Any:
        """Return the one task that was dropped under `name`, with its history."""
        return self.json("show", self.folder(name).name)

    def folder(self, name: str) -> Path:
        """Return the folder of the one task that was dropped under `name`."""
        with StoreReader(self.root / ".alluvium" / "alluvium.db") as store:
            (found,) = [t for t in store.tasks() if t.name == name]
        return Workspace(self.root).task(found.id).root

    def release(self, name: str) -> None:
        """Let an agent of the task dropped as `name` go on that waits as `HOLD` does."""
        (self.folder(name) / ".agent" / "go").touch()

    def wait(self, done: Callable[[], bool], what: str = "") -> None:
        """Wait for a condition, looking again whenever the daemon logs something."""
        changes: queue.SimpleQueue[None] = queue.SimpleQueue()

        class _Any(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                changes.put(None)

        observer = Observer()
        observer.schedule(_Any(), str(self.root / "logs"))
        observer.start()
        try:
            deadline = time.monotonic() + self.patience
            while not done():
                assert time.monotonic() < deadline, f"timed out: {what} {self.explain()}"
                try:
                    changes.get(timeout=1.0)
                except queue.Empty:
                    continue
                while not changes.empty():
                    changes.get()
        finally:
            observer.stop()
            observer.join()

    def wait_for(self, name: str, *states: str) -> Any:
        """Wait until the task dropped as `name` is in one of `states`, and return it."""

        def arrived() -> bool:
            with StoreReader(self.root / ".alluvium" / "alluvium.db") as store:
                return any(t.name == name and t.state in states for t in store.tasks())

        self.wait(arrived, f"{name} in {states}")
        return self.task(name)

    def wait_for_reason(self, name: str, part: str) -> None:
        """Wait until the task dropped as `name` gives a reason that holds `part`."""

        def said() -> bool:
            with StoreReader(self.root / ".alluvium" / "alluvium.db") as store:
                return any(t.name == name and part in t.reason for t in store.tasks())

        self.wait(said, f"{name}: {part}")

    def wait_for_file(self, path: Path) -> None:
        """Wait until a file exists and is not empty."""
        self.wait(lambda: path.exists() and path.stat().st_size > 0, str(path))

    def wait_until_idle(self) -> dict[str, int]:
        """Wait until the daemon has nothing left to do and return the counts of states."""
        counts: dict[str, int] = {}

        def idle() -> bool:
            status = read_status(Workspace(self.root))
            counts.clear()
            counts.update({k: v for k, v in status.tasks.items() if v})
            rest = set(counts) - {"done", "failed", "cancelled", "needs_human"}
            return status.inbox == 0 and bool(counts) and not rest

        self.wait(idle, "idle")
        return counts

    def explain(self) -> str:
        log = self.root / "logs" / "daemon.jsonl"
        tail = log.read_text()[-3000:] if log.exists() else ""
        return f"{self.cli('status')}\n{self.cli('list')}\n{tail}"

    # -- git -----------------------------------------------------------------------------------

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Run git as the owner would, in the owner's repository."""
        done = subprocess.run(
            ["git", *args],
            cwd=cwd or self.repo,
            capture_output=True,
            text=True,
            env=self.environment,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str], message: str = "owner's work") -> str:
        """Commit files in the owner's repository."""
        for name, text in files.items():
            path = self.repo / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            self.git("add", name)
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def base_log(self) -> list[str]:
        """Return the subjects on the base's first-parent line, newest first."""
        return self.git("log", "--first-parent", "--format=%s", "main").splitlines()

    def landed_task_ids(self) -> list[str]:
        """Return the tasks that the base holds, by trailer."""
        found = self.git("log", "--format=%(trailers:key=Task-Id,valueonly)", "main").split()
        assert len(found) == len(set(found)), f"merged twice: {found}"
        return found

    def base_file(self, path: str) -> str:
        return self.git("show", f"main:{path}")


def witnesses(bed: Bed, name: str, *files: str) -> list[Witness]:
    """Wait until the processes of a task have written their numbers, and know them from then on."""
    bed.wait(lambda: any(bed.root.glob(f"tasks/*/input/{name}")), "claimed")
    (item,) = bed.root.glob(f"tasks/*/input/{name}")
    outputs = item.parents[1] / ".agent" / "outputs"
    found = []
    for file in files:
        bed.wait_for_file(outputs / file)
        number = int((outputs / file).read_text())
        task_id = item.parents[1].name
        found.append(Witness(number) if bed.unboxed else Witness.told(number, task_id))
        (outputs / file).unlink()
    return found


def daemon(bed: Bed) -> Witness:
    return Witness(bed.json("status")["daemon"]["pid"])
