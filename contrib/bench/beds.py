"""Beds of the bench: a folder with a repository of its own, and what a measurement did cost.

Nothing of the caller's configuration counts, and every process that a bed begins carries a mark in
its environment, so that `scratch` ends what is left, whatever ended the bench.
"""

import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path

import psutil

FILES = 100
_FOLDERS, _FILES_A_FOLDER = 10, 50  # at least so many folders; at most so many files in one
_END_SECONDS = 10.0
_MARK = "ALLUVIUM_BENCH"
_MARK_VALUE = secrets.token_hex(8)


class NotSo(SystemExit):
    """What was to be measured is not what happened."""


class Bench:
    """One measurement's folder: an environment without the caller's configuration, and a repo."""

    def __init__(self, root: Path, files: int = FILES) -> None:
        self.root = root
        self.repo = root / "repo"
        home = root / "home"
        home.mkdir(parents=True)
        (home / ".gitconfig").write_text("[user]\n\tname = Bench\n\temail = bench@localhost\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            _MARK: _MARK_VALUE,
        }
        self._make_repository(files)

    def run(self, *argv: str, cwd: Path | None = None) -> str:
        """Run a command to its end and return its output. Raises NotSo with its last words."""
        done = subprocess.run(
            argv, cwd=cwd or self.root, env=self.environment, check=False, capture_output=True,
            text=True,
        )  # fmt: skip
        expect(done.returncode == 0, f"{' '.join(argv)} succeeds: {done.stderr.strip()[-500:]}")
        return done.stdout

    def landed(self) -> int:
        """Return how many commits main has beyond its first."""
        return int(self.run("git", "rev-list", "--count", "main", cwd=self.repo)) - 1

    def _make_repository(self, files: int) -> None:
        self.run("git", "init", "-q", "-b", "main", str(self.repo))
        folders = max(_FOLDERS, files // _FILES_A_FOLDER)
        for number in range(files):
            folder = self.repo / f"part{number % folders}"
            folder.mkdir(exist_ok=True)
            (folder / f"file{number}.txt").write_text(f"line of file {number}\n" * 40)
        self.run("git", "add", "-A", cwd=self.repo)
        self.run("git", "commit", "-q", "-m", "Start", cwd=self.repo)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a batch took: seconds on the clock, and seconds of all processors together.

    `capped`: the clock was stopped at the deadline, with more to come.
    """

    seconds: float
    cpu_seconds: float
    landed: int
    dropped: int
    capped: bool = False

    @property
    def whole(self) -> float:
        """The seconds for all: at the pace until the cap; never, where tasks were lost."""
        if self.landed == self.dropped:
            return self.seconds
        return self.seconds * self.dropped / self.landed if self.capped and self.landed else inf


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """Make a folder to work in; end what still runs of the bench, and delete it afterwards."""
    made = Path(tempfile.mkdtemp(prefix="alluvium-bench-", dir=folder)).resolve()
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield made
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing more is to be cut short
        end_marked()
        print(f"clearing {made} ...", file=sys.stderr, flush=True)  # large trees take a while
        shutil.rmtree(made, ignore_errors=True)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def end_marked() -> None:
    """Kill the processes that carry this bench's mark, and theirs; a stop in order leaves none."""
    ended: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(_MARK) == _MARK_VALUE:
                ended += [process, *process.children(recursive=True)]
                process.kill()
    for process in ended:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(ended, _END_SECONDS)


def cpu_seconds(pid: int, *, children: bool) -> float:
    """Return the processor time that a process has used, with or without all its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11 : 15 if children else 13])) / os.sysconf("SC_CLK_TCK")
    if not children:
        return own
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            own += sum(child.cpu_times()[:4])
    return own


def wait_for(done: Callable[[], bool], seconds: float, *, every: float) -> bool:
    """Look again and again until something holds; false when it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def seconds_of(stored: str) -> float:
    """Return a stored time as UTC seconds."""
    return datetime.fromisoformat(stored).timestamp()


def expect(holds: bool, what: str) -> None:
    """Stop the measurement when what it measures is not what happened. Raises NotSo."""
    if not holds:
        raise NotSo(f"not so: {what}")


def rounded(values: Sequence[float]) -> list[float]:
    """Return figures without digits that mean nothing."""
    return [round(value, 3) for value in values]


def machine(folder: Path) -> dict[str, object]:
    """Return what figures of different machines differ by."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True
    )
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "git": git.stdout.split()[-1],
        "file_system": kind.stdout.strip(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
