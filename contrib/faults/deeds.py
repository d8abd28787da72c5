"""What is done to a daemon in a soak: by people, by a murderer, and by others at the repository.

Each deed draws what it needs by lot and returns what came of it, for the counts; what should never
come of it is put down in `wrong`.
"""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "scenario"))

from bed import PROGRAM, Bed
from crowd import AGENT, TEST, Crowd

import alluvium_like
from alluvium_like.errors import StoreError
from alluvium_like.execution.identity import identity_of_row, send_signal
from alluvium_like.execution.marker import marked_processes
from alluvium_like.execution.table import all_rows, with_descendants
from alluvium_like.lifecycle import ACTIVE, CheckpointKind
from alluvium_like.lock import is_locked
from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

_LONGEST_STOP_SECONDS = 1.0
_COMMAND_SECONDS = 0.5
_END_SECONDS = 60.0
_FULL = 40  # so many tasks under way are enough


class Deeds:
    """A workspace, a remote and a clone of it below `place`, and what is done to them."""

    def __init__(self, place: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.place = place
        self.bed = Bed(place / "workspace")
        self.bed.environment["PYTHONPATH"] = str(Path(alluvium_like.__file__).parents[1])
        self.workspace = Workspace(self.bed.root)
        self.events: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.cancelled: set[str] = set()
        self.daemon: subprocess.Popen[bytes] | None = None
        self._numbers = iter(range(10**9))
        self._make()
        self.crowd = Crowd(self.workspace, place / "staging", self.rng)

    # -- making --------------------------------------------------------------------------------

    def _make(self) -> None:
        bed, origin = self.bed, self.place / "origin.git"
        bed.make(AGENT.replace("PLACE", str(self.bed.open)))
        bed.commit({"journal": "the first line\n"})
        bed.git("init", "-q", "--bare", "-b", "main", str(origin), cwd=self.place)
        bed.git("config", "core.logAllRefUpdates", "true", cwd=origin)
        bed.git("remote", "add", "origin", str(origin))
        bed.git("push", "-q", "origin", "main")
        bed.git("clone", "-q", str(origin), str(self.place / "others"), cwd=self.place)
        (bed.open / "test.sh").write_text(TEST.replace("PLACE", str(bed.open)))
        self.configure(workers=3, parallel=2, style="squash")

    def configure(self, *, workers: int, parallel: int, style: str) -> None:
        """Write config.toml."""
        self.bed.configure(
            f"""
            [agent]
            timeout_seconds = 4
            retries = 1
            [integration]
            run_tests = ["sh '{self.bed.open}/test.sh'"]
            parallel_tests = {parallel}
            merge_style = "{style}"
            push = "origin"
            [safety]
            max_workers = {workers}
            inbox_settle_seconds = 0.2
            shutdown_grace_seconds = 1
            [retention]
            min_free_bytes = 0
            """
        )

    # -- the daemon ----------------------------------------------------------------------------

    def start(self) -> str:
        """Start the daemon where it does not run."""
        if self.runs():
            return "start of one that runs"
        with (self.place / "daemon.err").open("ab") as words:
            self.daemon = subprocess.Popen(
                [*PROGRAM, "-C", str(self.bed.root), "serve"],
                env=self.bed.environment,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        return "start"

    def kill(self) -> str:
        """Kill the daemon alone; its agents and gits live on."""
        if not self.runs():
            return "kill of none"
        self.ended(signal.SIGKILL)
        return "kill of the daemon"

    def kill_tree(self) -> str:
        """Kill the daemon and all that hangs below it."""
        daemon = self.daemon
        if daemon is None or not self.runs():
            return "kill of none"
        daemon.send_signal(signal.SIGSTOP)
        rows = all_rows()
        for pid in with_descendants(rows, {daemon.pid}) - {daemon.pid}:
            send_signal(identity_of_row(rows[pid]), signal.SIGKILL)
        self.ended(signal.SIGKILL)
        return "kill of the tree"

    def stop(self) -> str:
        """Stop the daemon in order, or in a hurry."""
        if not self.runs():
            return "stop of none"
        if not is_locked(self.workspace):
            return "stop of one that is still starting"
        force = self.rng.random() < 0.5
        self.cli("stop", *(["--force"] if force else []), "--timeout", "60")
        self.ended()
        return "stop --force" if force else "stop"

    def freeze(self) -> str:
        """Stop the daemon with a signal for a moment, while others go on."""
        daemon = self.daemon
        if daemon is None or not self.runs():
            return "freeze of none"
        daemon.send_signal(signal.SIGSTOP)
        self.crowd.drop()
        time.sleep(self.rng.uniform(0, _LONGEST_STOP_SECONDS))
        daemon.send_signal(signal.SIGCONT)
        return "freeze of the daemon"

    def harm_child(self) -> str:
        """Kill one agent, test or git of the daemon, or freeze it for a moment."""
        children = marked_processes(self._meta("workspace_id") or "-")
        if not children:
            return "harm of none"
        child = self.rng.choice(sorted(children, key=lambda child: child.pid))
        if self.rng.random() < 0.5:
            send_signal(child, signal.SIGKILL)
            return "kill of a child"
        send_signal(child, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0, _LONGEST_STOP_SECONDS))
        send_signal(child, signal.SIGCONT)
        return "freeze of a child"

    def runs(self) -> bool:
        """Tell whether the daemon runs; that it ended by itself is wrong."""
        if self.daemon is not None and self.daemon.poll() is not None:
            self.wrong.append(f"the daemon ended by itself with {self.daemon.returncode}")
            self.daemon = None
        return self.daemon is not None

    def ended(self, number: int = 0) -> None:
        """Send the daemon a signal, if one is given, and wait for its end."""
        assert self.daemon is not None
        if number:
            self.daemon.send_signal(number)
        code = self.daemon.wait(_END_SECONDS)
        if code != -number:
            self.wrong.append(f"the daemon ended with {code}, expected was {-number}")
        self.daemon = None

    # -- people --------------------------------------------------------------------------------

    def drop(self) -> str:
        """Drop an item, unless there are enough."""
        if sum(task.state in ACTIVE for task in self.tasks()) >= _FULL:
            return "drop into a full house"
        return self.crowd.drop()

    def submit(self) -> str:
        """Drop an item through the command line."""
        return self.crowd.submit(self.cli)

    def kill_amid(self) -> str:
        """Kill the daemon while it is told to cancel something; what is stored then counts."""
        task = self._any(lambda task: task.state in ACTIVE)
        if task is None or not self.runs():
            return "kill amid nothing"
        command = self.bed.spawn("cancel", task.id)
        time.sleep(self.rng.uniform(0, _COMMAND_SECONDS))
        self.kill()
        _, told = command.communicate(timeout=_END_SECONDS)
        stored = any(other.id == task.id and other.state == "cancelled" for other in self.tasks())
        if command.returncode == 0 and not stored:
            self.wrong.append(f"the cancel of {task.id} was acknowledged and lost")
        if command.returncode not in (0, 1) or len(told.splitlines()) > 1:
            self.wrong.append(f"'cancel' ended with {command.returncode} and said {told!r}")
        if stored:
            self.cancelled.add(task.id)
        return "kill amid a command"

    def cancel(self) -> str:
        """Cancel a task that is not over."""
        task = self._any(lambda task: task.state in ACTIVE)
        return "cancel of none" if task is None else self.cancel_it(task)

    def cancel_it(self, task: Task) -> str:
        """Cancel one task; once that was acknowledged it stays so until a retry."""
        if not self.cli("cancel", task.id):
            return "cancel refused"
        self.cancelled.add(task.id)
        return "cancel"

    def retry(self) -> str:
        """Run a task again that failed or was cancelled."""
        task = self._any(lambda task: task.state in ("failed", "cancelled"))
        return "retry of none" if task is None else self.retry_it(task)

    def retry_it(self, task: Task) -> str:
        """Run one task again."""
        if not self.cli("retry", task.id):
            return "retry refused"
        self.cancelled.discard(task.id)
        return "retry"

    def decide(self) -> str:
        """Answer a question, or allow or reject work that touches protected paths."""
        task = self._any(lambda task: task.state == "needs_human")
        return "decision about none" if task is None else self.decide_about(task)

    def decide_about(self, task: Task) -> str:
        """Give one task what it waits for."""
        with StoreReader(self.workspace.database) as store:
            kinds = [row["kind"] for row in store.checkpoints(task.id) if not row["answered_at"]]
        if CheckpointKind.APPROVAL not in kinds:
            return self.told("answer", task.id, "blue")
        if self.rng.random() < 0.5:
            return self.told("approve", task.id)
        return self.told("reject", task.id, "Rejected: not there")

    def revert(self) -> str:
        """Take back a task that landed."""
        task = self._any(lambda task: task.outcome == "merged" and "-plain-" in task.name)
        return "revert of none" if task is None else self.told("revert", task.id)

    def reload(self) -> str:
        """Change the configuration, and have it taken up."""
        self.configure(
            workers=self.rng.randint(1, 4),
            parallel=self.rng.randint(1, 2),
            style=self.rng.choice(("squash", "merge")),
        )
        return self.told("reload")

    def clear_up(self) -> str:
        """Remove what was kept long enough."""
        return self.told("gc")

    def pause(self) -> str:
        """Pause, or go on."""
        return self.told(self.rng.choice(("pause", "resume", "resume")))

    def owner(self) -> str:
        """Commit in the owner's repository, or leave an edit in it that is in nobody's way."""
        number = next(self._numbers)
        if self.rng.random() < 0.3:
            (self.bed.repo / f"untracked-{number}").write_text("mine")
            return "owner's untracked file"
        (self.bed.repo / f"owner-{number}").write_text("mine")
        with suppress(subprocess.CalledProcessError):  # a landing holds the index at this moment
            self.bed.git("add", f"owner-{number}")
            self.bed.git("commit", "-q", "-m", "owner's work")
            return "owner's commit"
        return "owner's commit refused"

    def others(self) -> str:
        """Push from elsewhere."""
        place, number = self.place / "others", next(self._numbers)
        (place / f"others-{number}").write_text("theirs")
        with suppress(subprocess.CalledProcessError):  # the daemon pushed at this moment
            self.bed.git("add", "-A", cwd=place)
            self.bed.git("commit", "-q", "-m", "others' work", cwd=place)
            self.bed.git("pull", "-q", "--rebase", cwd=place)
            self.bed.git("push", "-q", "origin", "main", cwd=place)
            return "others' push"
        return "others' push refused"

    # -- looking -------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """Return all tasks; none where the store is just being made."""
        with suppress(StoreError), StoreReader(self.workspace.database) as store:
            return store.tasks()
        return []

    def _meta(self, key: str) -> str:
        with suppress(StoreError), StoreReader(self.workspace.database) as store:
            return store.meta(key)
        return ""

    def _any(self, wanted: Callable[[Task], bool]) -> Task | None:
        found = [task for task in self.tasks() if wanted(task)]
        return self.rng.choice(found) if found else None

    def told(self, *words: str) -> str:
        """Run a command; return what to count."""
        return words[0] if self.cli(*words) else f"{words[0]} refused"

    def cli(self, *words: str) -> bool:
        """Run a command; tell whether it was done. Else it must say why, in one line."""
        done = self.bed.run("-C", str(self.bed.root), *words)
        told = done.stderr.splitlines()
        if done.returncode == 0 or (done.returncode == 1 and len(told) == 1):
            return done.returncode == 0
        self.wrong.append(f"'{words[0]}' ended with {done.returncode} and said {done.stderr!r}")
        return False
