"""A life of one workspace, driven from outside, that goes on after any crash.

Everything a person does is a rule: what must be seen in the store, and what is done then. Rules are
asked again and again, so a life that was cut off goes on where it stands. What was acknowledged and
is due again has been lost. How a daemon is disturbed is its environment's affair.
"""

import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "scenario"))

from bed import PROGRAM, Bed
from invariants import Drop, Life, processes_of

from alluvium_like.errors import AlluviumError
from alluvium_like.execution.identity import send_signal
from alluvium_like.surface.client import call
from alluvium_like.workspace import Workspace

PATIENCE_SECONDS = 90.0
_LOOK_SECONDS = 0.02  # the end of the daemon is an event; a commit of its store tells nobody


@dataclass(frozen=True, slots=True)
class Seen:
    """The store at one moment: the tasks by name, and the conditions that hold."""

    tasks: Mapping[str, sqlite3.Row]
    conditions: tuple[str, ...]

    def states(self, *names: str) -> set[str]:
        """Return the states of some tasks, "" for one that is not there yet."""
        return {self.tasks[name]["state"] if name in self.tasks else "" for name in names}


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done when something is seen; of what is `told` to the daemon each counts once."""

    name: str
    due: Callable[[Seen], bool]
    act: Callable[[Seen], object]
    told: bool = True


class Died(Exception):
    """The daemon ended without being told to; `code` is that of `Popen.returncode`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the daemon ended with {code}")
        self.code = code


class Stuck(Exception):
    """The life did not come to its end in time."""


class Scene:
    """One life in a folder of its own; what happens in it is a subclass's affair.

    A subclass gives `agent` and `settings` (`@` stands for the folder that all of them may write),
    `drop_all`, `rules`, `is_over` and `end_state`.
    """

    agent = "exit 0\n"
    settings = ""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.bed = Bed(place / "workspace")
        self.root = self.bed.root
        self.origin = place / "origin.git"
        self.tested = self.bed.open / "tested"
        self.acknowledged: Counter[str] = Counter()
        self.dropped: list[Drop] = []
        self.daemon: subprocess.Popen[bytes] | None = None

    # -- what a subclass says ------------------------------------------------------------------

    def drop_all(self) -> None:
        """Put into the inbox what lies there when the daemon starts."""
        raise NotImplementedError

    def rules(self) -> Sequence[Rule]:
        """Return what a person does in this life."""
        return ()

    def is_over(self, seen: Seen) -> bool:
        """Tell whether nothing is left to do, for the person as for the daemon."""
        raise NotImplementedError

    def end_state(self) -> dict[str, object]:
        """Return what must be the same at the end of each life, ids and times left out."""
        raise NotImplementedError

    # -- making --------------------------------------------------------------------------------

    @classmethod
    def template(cls, place: Path) -> Self:
        """Make a workspace with a remote in which no daemon has run yet, for `begin` to copy."""
        place.mkdir(parents=True)
        scene = cls(place)
        scene.bed.make()
        git = scene.bed.git
        git("init", "-q", "--bare", "-b", "main", str(scene.origin), cwd=place)
        git("config", "core.logAllRefUpdates", "true", cwd=scene.origin)
        git("remote", "add", "origin", str(scene.origin))
        git("push", "-q", "origin", "main")
        return scene

    def begin(self, place: Path) -> Self:
        """Copy this template to a new place and drop the items there; no daemon runs yet."""
        shutil.copytree(self.place, place, symlinks=True)
        for made in ("home", "open"):
            shutil.rmtree(place / made)
        scene = type(self)(place)
        scene.bed.git("remote", "set-url", "origin", str(scene.origin))
        scene.bed.set_agent(self.agent.replace("@", str(scene.bed.open)))
        scene.configure()
        scene.drop_all()
        return scene

    def configure(self, settings: str = "") -> None:
        """Write config.toml: these settings, or those of the class."""
        self.bed.configure((settings or self.settings).replace("@", str(self.bed.open)))

    def drop(self, name: str, text: str = "please\n") -> None:
        """Publish a file in the inbox by rename, as producers should."""
        copy = self.place / name
        copy.write_text(text)
        self.dropped.append(Drop.of(copy))
        copy.rename(self.bed.inbox / name)

    # -- the daemon ----------------------------------------------------------------------------

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the daemon with more in its environment; what it says goes to `daemon.err`."""
        with (self.place / "daemon.err").open("ab") as words:
            self.daemon = subprocess.Popen(
                [*PROGRAM, "-C", str(self.root), "serve"],
                env={**self.bed.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )

    def live(self) -> None:
        """Follow the rules to the end of the life and stop the daemon. Raises Died or Stuck."""
        self.until(self.is_over)
        self.stop()

    def until(self, reached: Callable[[Seen], bool]) -> None:
        """Follow the rules until something is seen. Raises Died or Stuck."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached(seen := self.look()):
            for rule in self.rules():
                if rule.due(seen):
                    self._act(rule, seen)
            self._wait_for_end(_LOOK_SECONDS)
            if time.monotonic() > deadline:
                raise Stuck(self.explain())

    def stop(self) -> None:
        """Stop the daemon in order. Raises Died when it ended in any other way."""
        self.until(lambda _: self.is_ready())
        with suppress(AlluviumError):  # it was gone: its code tells
            self.tell("stop", force=False)
        code = self._started().wait(PATIENCE_SECONDS)
        if code:
            raise Died(code)

    def drain(self, environment: Mapping[str, str] | None = None) -> None:
        """Start anew and live to the end. Raises Died or Stuck."""
        self.start(environment)
        self.live()

    def end(self) -> None:
        """Make sure that no process of this life is left."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        for survivor in processes_of(self.root):
            send_signal(survivor, signal.SIGKILL)

    def is_ready(self) -> bool:
        """Tell whether the daemon has recovered and answers."""
        try:
            self.tell("ping")
        except AlluviumError:
            return False
        return True

    def tell(self, method: str, **params: object) -> None:
        """Ask the daemon for something, as the command line does. Raises AlluviumError."""
        call(Workspace(self.root), method, params)

    # -- what is seen --------------------------------------------------------------------------

    def look(self) -> Seen:
        """Read the tasks."""
        database = Workspace(self.root).database
        if not database.exists():
            return Seen({}, ())
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            try:
                rows = db.execute("SELECT * FROM tasks ORDER BY seq").fetchall()
                held = db.execute("SELECT name FROM conditions").fetchall()
            except sqlite3.OperationalError:
                return Seen({}, ())  # the schema is being made
        return Seen({row["name"]: row for row in rows}, tuple(row["name"] for row in held))

    def life(self) -> Life:
        """Return what the invariants are checked against."""
        return Life(self.root, self.dropped, self.bed.repo, tested=self.tested, remote=self.origin)

    def lost(self) -> list[str]:
        """Return what was acknowledged and had to be said again."""
        told = {rule.name for rule in self.rules() if rule.told}
        again = [name for name, times in self.acknowledged.items() if times > 1 and name in told]
        return [f"'{name}' was acknowledged and lost" for name in again]

    def base_files(self) -> list[str]:
        """Return the paths and contents of the base's tree."""
        return self.bed.git("ls-tree", "-r", "--format=%(path) %(objectname)", "main").splitlines()

    def is_even(self) -> bool:
        """Tell whether the remote has what the base has."""
        here, there = (
            self.bed.git("rev-parse", "main", cwd=repo) for repo in (self.bed.repo, self.origin)
        )
        return here == there

    def explain(self) -> str:
        """Return what a person would look at first."""
        seen = self.look()
        tasks = [f"{name}: {row['state']} {row['reason']}" for name, row in seen.tasks.items()]
        log = self.root / "logs" / "daemon.jsonl"
        tail = log.read_text().splitlines()[-10:] if log.exists() else []
        return "\n".join([*tasks, *seen.conditions, *(line[-500:] for line in tail)])

    def _act(self, rule: Rule, seen: Seen) -> None:
        try:
            rule.act(seen)
        except AlluviumError:
            return  # the daemon is starting, stopping or gone, or was quicker: asked again
        self.acknowledged[rule.name] += 1

    def _started(self) -> "subprocess.Popen[bytes]":
        if self.daemon is None:
            raise AssertionError("no daemon was started")
        return self.daemon

    def _wait_for_end(self, seconds: float) -> None:
        daemon = self._started()
        gone = os.pidfd_open(daemon.pid)
        try:
            if select.select([gone], [], [], seconds)[0]:
                raise Died(daemon.wait())
        finally:
            os.close(gone)
