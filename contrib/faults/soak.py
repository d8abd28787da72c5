"""A daemon under everything at once, for minutes: nothing is lost, and all comes to its end.

    python contrib/faults/soak.py --minutes N [--seed S]

Items of every kind are dropped in every manner while the daemon, its agents and its gits are
killed, stopped and continued, told to reload, pause, resume, stop and clear up; tasks are
cancelled, retried, answered, approved, rejected and reverted; the owner commits and others push.
In the end all is left to drain; then the invariants, the end of every task and what was
acknowledged are looked at. The seed repeats what is done, not when the processes come to it. The
exit code is 1 on a violation.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "scenario"))

from bed import PROGRAM, Bed
from crowd import AGENT, TEST, Crowd, wrong_ends
from invariants import Life, violations

import alluvium_like
from alluvium_like.errors import StoreError
from alluvium_like.execution.identity import identity_of_row, send_signal
from alluvium_like.execution.marker import marked_processes
from alluvium_like.execution.table import all_rows, with_descendants
from alluvium_like.lifecycle import ACTIVE, CheckpointKind
from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

DRAIN_SECONDS = 180.0
_MEAN_PAUSE_SECONDS = 0.15
_LONGEST_STOP_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_COMMAND_SECONDS = 0.5
_BACK = 0.4  # how likely a daemon that does not run is started, before each action
_FULL = 40  # so many tasks under way are enough


class Soak:
    """One soak in a folder of its own."""

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
        bed.make(AGENT.replace("PLACE", str(self.place)))
        bed.commit({"journal": "the first line\n"})
        bed.git("init", "-q", "--bare", "-b", "main", str(origin), cwd=self.place)
        bed.git("config", "core.logAllRefUpdates", "true", cwd=origin)
        bed.git("remote", "add", "origin", str(origin))
        bed.git("push", "-q", "origin", "main")
        bed.git("clone", "-q", str(origin), str(self.place / "others"), cwd=self.place)
        (self.place / "test.sh").write_text(TEST.replace("PLACE", str(self.place)))
        self._configure(workers=3, parallel=2, style="squash")

    def _configure(self, *, workers: int, parallel: int, style: str) -> None:
        self.bed.configure(
            f"""
            [agent]
            timeout_seconds = 4
            retries = 1
            [integration]
            run_tests = ["sh '{self.place}/test.sh'"]
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
        if self._runs():
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
        if not self._runs():
            return "kill of none"
        self._ended(signal.SIGKILL)
        return "kill of the daemon"

    def kill_tree(self) -> str:
        """Kill the daemon and all that hangs below it."""
        daemon = self.daemon
        if daemon is None or not self._runs():
            return "kill of none"
        daemon.send_signal(signal.SIGSTOP)
        rows = all_rows()
        for pid in with_descendants(rows, {daemon.pid}) - {daemon.pid}:
            send_signal(identity_of_row(rows[pid]), signal.SIGKILL)
        self._ended(signal.SIGKILL)
        return "kill of the tree"

    def stop(self) -> str:
        """Stop the daemon in order, or in a hurry."""
        if not self._runs():
            return "stop of none"
        force = self.rng.random() < 0.5
        self._cli("stop", *(["--force"] if force else []), "--timeout", "60")
        self._ended()
        return "stop --force" if force else "stop"

    def freeze(self) -> str:
        """Stop the daemon with a signal for a moment, while others go on."""
        daemon = self.daemon
        if daemon is None or not self._runs():
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

    def _runs(self) -> bool:
        if self.daemon is not None and self.daemon.poll() is not None:
            self.wrong.append(f"the daemon ended by itself with {self.daemon.returncode}")
            self.daemon = None
        return self.daemon is not None

    def _ended(self, number: int = 0) -> None:
        assert self.daemon is not None
        if number:
            self.daemon.send_signal(number)
        code = self.daemon.wait(60)
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
        return self.crowd.submit(self._cli)

    def kill_amid(self) -> str:
        """Kill the daemon while it is told to cancel something; what is stored then counts."""
        task = self._any(lambda task: task.state in ACTIVE)
        if task is None or not self._runs():
            return "kill amid nothing"
        command = self.bed.spawn("cancel", task.id)
        time.sleep(self.rng.uniform(0, _COMMAND_SECONDS))
        self.kill()
        _, told = command.communicate(timeout=60)
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
        return "cancel of none" if task is None else self._cancel(task)

    def _cancel(self, task: Task) -> str:
        if not self._cli("cancel", task.id):
            return "cancel refused"
        self.cancelled.add(task.id)
        return "cancel"

    def retry(self) -> str:
        """Run a task again that failed or was cancelled."""
        task = self._any(lambda task: task.state in ("failed", "cancelled"))
        return "retry of none" if task is None else self._retry(task)

    def _retry(self, task: Task) -> str:
        if not self._cli("retry", task.id):
            return "retry refused"
        self.cancelled.discard(task.id)
        return "retry"

    def decide(self) -> str:
        """Answer a question, or allow or reject work that touches protected paths."""
        task = self._any(lambda task: task.state == "needs_human")
        return "decision about none" if task is None else self._decide(task)

    def _decide(self, task: Task) -> str:
        with StoreReader(self.workspace.database) as store:
            kinds = [row["kind"] for row in store.checkpoints(task.id) if not row["answered_at"]]
        if CheckpointKind.APPROVAL not in kinds:
            return self._told("answer", task.id, "blue")
        if self.rng.random() < 0.5:
            return self._told("approve", task.id)
        return self._told("reject", task.id, "Rejected: not there")

    def revert(self) -> str:
        """Take back a task that landed."""
        task = self._any(lambda task: task.outcome == "merged" and "-plain-" in task.name)
        return "revert of none" if task is None else self._told("revert", task.id)

    def reload(self) -> str:
        """Change the configuration, and have it taken up."""
        self._configure(
            workers=self.rng.randint(1, 4),
            parallel=self.rng.randint(1, 2),
            style=self.rng.choice(("squash", "merge")),
        )
        return self._told("reload")

    def clear_up(self) -> str:
        """Remove what was kept long enough."""
        return self._told("gc")

    def pause(self) -> str:
        """Pause, or go on."""
        return self._told(self.rng.choice(("pause", "resume", "resume")))

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

    def _told(self, *words: str) -> str:
        return words[0] if self._cli(*words) else f"{words[0]} refused"

    def _cli(self, *words: str) -> bool:
        """Run a command; tell whether it was done. Else it must say why, in one line."""
        done = self.bed.run("-C", str(self.bed.root), *words)
        told = done.stderr.splitlines()
        if done.returncode == 0 or (done.returncode == 1 and len(told) == 1):
            return done.returncode == 0
        self.wrong.append(f"'{words[0]}' ended with {done.returncode} and said {done.stderr!r}")
        return False

    # -- the whole -----------------------------------------------------------------------------

    def soak(self, seconds: float) -> None:
        """Do one thing after the other, drawn by lot, for so many seconds."""
        actions: dict[Callable[[], str], int] = {
            **dict.fromkeys((self.drop,), 30),
            **dict.fromkeys((self.submit, self.cancel, self.retry, self.owner, self.others), 3),
            **dict.fromkeys((self.decide, self.harm_child), 6),
            **dict.fromkeys((self.kill, self.kill_tree, self.freeze, self.reload, self.revert), 2),
            **dict.fromkeys((self.kill_amid, self.stop, self.pause, self.clear_up), 1),
        }
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.daemon is None and self.rng.random() < _BACK:
                self._do(self.start)
            else:
                self._do(self.rng.choices(list(actions), list(actions.values()))[0])
            time.sleep(self.rng.expovariate(1 / _MEAN_PAUSE_SECONDS))

    def drain(self) -> None:
        """Let all come to its end, and help where only a person can."""
        self.crowd.finish()
        (self.place / "go-on").touch()
        self._configure(workers=3, parallel=2, style="squash")
        self._do(self.start)
        self._runs()
        self._told("reload")
        self._told("resume")
        deadline = time.monotonic() + DRAIN_SECONDS
        while not self._is_over():
            for task in self.tasks():
                wish = self.crowd.wishes.get(task.name)
                if task.state == "needs_human":
                    self._do(lambda task=task: self._decide(task))  # type: ignore[misc]
                elif task.state == "failed" and (wish is None or wish.kind != "fail"):
                    self._do(lambda task=task: self._retry(task))  # type: ignore[misc]
            if time.monotonic() > deadline:
                self.wrong.append(f"not drained after {DRAIN_SECONDS:g} s: {self._explain()}")
                break
            if not self._runs():
                break
            time.sleep(_LOOK_SECONDS)
        if self._runs():
            self._cli("stop", "--timeout", "60")
            self._ended()

    def check(self) -> list[str]:
        """Return what is wrong, once all has drained."""
        words = (self.place / "daemon.err").read_text()
        life = Life(
            self.bed.root,
            self.crowd.dropped,
            self.bed.repo,
            tested=self.place / "tested",
            remote=self.place / "origin.git",
        )
        return [
            *self.wrong,
            *violations(life),
            *wrong_ends(self.workspace, self.crowd.wishes, self.cancelled),
            *([f"the daemon said: {words[-2000:]}"] if "Traceback" in words else []),
        ]

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        self.crowd.finish()
        if self.daemon is not None:
            with suppress(ProcessLookupError):
                self.kill_tree()

    def _do(self, action: Callable[[], str]) -> None:
        self.events[action()] += 1

    def _is_over(self) -> bool:
        if any(not item.name.startswith(".") for item in self.workspace.inbox.iterdir()):
            return False
        for task in self.tasks():
            wish = self.crowd.wishes.get(task.name)
            may_fail = wish is not None and wish.kind == "fail"
            if task.state not in ("done", "cancelled") and not (
                may_fail and task.state == "failed"
            ):
                return False
        here = self.bed.git("rev-parse", "main")
        return here == self.bed.git("rev-parse", "main", cwd=self.place / "origin.git")

    def _explain(self) -> str:
        with StoreReader(self.workspace.database) as store:
            held = [f"{row['name']}: {row['reason']}" for row in store.conditions()]
        open_tasks = [
            f"{task.id} is {task.state} ({task.reason})"
            for task in self.tasks()
            if task.state not in ("done", "cancelled", "failed")
        ]
        inbox = [item.name for item in self.workspace.inbox.iterdir()]
        return "; ".join([*open_tasks[:10], *held, f"in the inbox: {inbox[:5]}"])


def run(place: Path, seed: int, seconds: float) -> dict[str, object]:
    """Soak for so many seconds below `place`, drain, check, and return the figures."""
    begun = time.monotonic()
    soak = Soak(place, seed)
    try:
        soak.start()
        soak.soak(seconds)
        soak.drain()
    finally:
        soak.end()
    found = soak.check()
    ends = Counter(f"{task.state} {task.outcome or ''}".strip() for task in soak.tasks())
    with StoreReader(soak.workspace.database) as store:
        attempts = sum(len(store.attempts(task.id)) for task in soak.tasks())
    return {
        "seed": seed,
        "seconds": round(seconds),
        "seconds_with_drain": round(time.monotonic() - begun),
        "dropped": len(soak.crowd.dropped),
        "attempts": attempts,
        "ends": dict(sorted(ends.items())),
        "events": dict(sorted(soak.events.items())),
        "violations": found,
    }


def main() -> int:
    """Read the options, soak, print and keep the figures; return the exit code."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument(
        "--minutes", type=float, required=True, help="without the drain at the end"
    )
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    options.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    options.add_argument("--results", type=Path, help="where to keep the figures")
    options.add_argument("--keep", action="store_true", help="keep the folder after a violation")
    given = options.parse_args()
    print(f"seed {given.seed}", file=sys.stderr, flush=True)
    place = Path(tempfile.mkdtemp(prefix="alluvium-soak-", dir=given.folder))
    try:
        document = run(place, given.seed, given.minutes * 60)
    except BaseException:
        print(f"kept: {place}", file=sys.stderr)
        raise
    text = json.dumps(document, indent=1)
    print(text)
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / "soak.json").write_text(text + "\n")
    if document["violations"] and given.keep:
        print(f"kept: {place}", file=sys.stderr)
    else:
        shutil.rmtree(place)
    return 1 if document["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
