"""The peer, alluvium-swarm, from the package index: the same batches by the same interface.

It is installed into an environment of its own in the scratch folder. With its defaults it is told
the agent and nothing else; tuned, it has the settings that were found to be its quickest.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path

import tomli_w
from batches import Work, document, in_turns, middle
from beds import Bench, Cost, expect, seconds_of, wait_for
from swarms import (
    COMMITS,
    LOOK_SECONDS,
    PATIENCE_SECONDS,
    SLOTS,
    Ends,
    Open,
    Settings,
    Side,
    Swarm,
    ours,
    running,
)

PACKAGE = "alluvium-swarm==0.5.1"
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_LOST = ("failed", "needs_human", "lost", "dead_letter")

DEFAULTS: Settings = {}
_TUNED: Settings = {
    "safety": {
        "max_workers": SLOTS,
        "inbox_settle_seconds": 0,
        "scan_interval_seconds": 1,
        "integrator_interval_seconds": 0,
    }
}
TUNED: dict[str, Settings] = {
    "tuned": _TUNED,
    "tuned, never resting": {"safety": {**_TUNED["safety"], "scan_interval_seconds": 0}},
    "tuned, doing less": {
        **_TUNED,
        "git": {"auto_commit_worker_changes": False},
        "integration": {"cleanup_after_merge": False},
    },
}
"""Whole seconds are all that it takes, and zero is a loop without a pause; the quickest counts."""


class Peer(Swarm):
    """The peer's daemon over the repository of a bench."""

    def __init__(self, bench: Bench, venv: Path, settings: Settings) -> None:
        super().__init__(bench)
        self.root.mkdir()
        config = self.root / "config.toml"
        told = {"repo_path": str(bench.repo), "agent": {"command": ["sh", "-ec", COMMITS]}}
        config.write_text(tomli_w.dumps({**told, **settings}))
        with (self.root / "serve.log").open("wb") as log:
            self._process = subprocess.Popen(
                [venv / "bin" / "alluvium", "serve", "--config", config],
                cwd=self.root,
                env=bench.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid_file = self.root / ".alluvium" / "daemon.pid"
        expect(wait_for(pid_file.exists, _START_SECONDS, every=LOOK_SECONDS), "the peer starts")

    @property
    def pid(self) -> int:
        """The peer's process."""
        return self._process.pid

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self._process.poll() is None

    def batch(self, count: int, seconds: float = PATIENCE_SECONDS) -> Cost:
        """Measure as ever; between batches it is held, for tuned it uses a processor always."""
        self._process.send_signal(signal.SIGCONT)
        try:
            return super().batch(count, seconds)
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def ends(self) -> Ends:
        """Return how the tasks that ended did end, as its own database says."""
        place = f"{(self.root / '.alluvium' / 'alluvium.db').as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True)) as database:
            rows = database.execute("SELECT state, updated_at FROM tasks").fetchall()
        landed = sorted(seconds_of(at) for state, at in rows if state == "done")
        return Ends(landed, sum(state in _LOST for state, _ in rows))

    def stop(self) -> None:
        """Ask it to end, and end it where it does not."""
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def install(folder: Path) -> Path:
    """Install the peer into a new virtual environment. Raises NotSo where that fails."""
    venv = folder / "peer"
    for argv in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(venv / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", PACKAGE],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"{PACKAGE} can be installed: {done.stderr.strip()[-500:]}")
    return venv


def measure(folder: Path, work: Work, runs: int, seconds: float) -> dict[str, object]:
    """Measure the peer against our daemon; its defaults once, `seconds` at most.

    Ours and every tuned setting go in turns. Where the defaults did not land all in time, their
    time is what the whole batch would have taken at the pace of what landed.
    """
    venv = install(folder)
    sides: dict[str, Open] = {"ours": ours}
    sides.update({name: _opener(venv, settings) for name, settings in TUNED.items()})
    costs = in_turns(folder, work, sides, runs)
    costs |= in_turns(folder, work, {"defaults": _opener(venv, DEFAULTS)}, 1, seconds)
    found = {"package": PACKAGE, "settings": TUNED}
    return {**found, **document(work, costs), **_ratios(costs)}


def _opener(venv: Path, settings: Settings) -> Open:
    def opened(root: Path, files: int) -> AbstractContextManager[Side]:
        return running(Peer(Bench(root, files), venv, settings))

    return opened


def _ratios(costs: Mapping[str, list[Cost]]) -> dict[str, object]:
    """Return how many times faster ours is; a side that lost tasks has no time that counts."""
    mine = middle(costs["ours"])
    tuned = {name: seconds for name in TUNED if (seconds := middle(costs[name]))}
    best = min(tuned, key=tuned.__getitem__, default=None)
    times = {"defaults": middle(costs["defaults"]), "tuned": tuned[best] if best else None}
    return {
        "tuned_best": best,
        **{
            f"times_faster_than_{name}": round(seconds / mine, 2) if seconds and mine else None
            for name, seconds in times.items()
        },
    }
