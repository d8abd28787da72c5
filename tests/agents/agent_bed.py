"""A daemon whose agents are real programs, and what a test wants to know of their attempts."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import tomli_w
from bed import Bed
from model_server.script import Case
from model_server.server import ModelServer, Request
from programs import KEY, Program

from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Attempt, Parked, Task

ITEM = "wish.txt"
"""The name of the item: a part of the first prompt of its task, and of no other."""
_PATIENCE_SECONDS = 600.0
_LONG_SECONDS = 300.0


class Scene:
    """A bed with the agents that a test has added, of which the first one is chosen."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        bed.patience = _PATIENCE_SECONDS
        scratch = bed.root.parent / "scratch"  # codex runs nothing where its own folder is below it
        scratch.mkdir()
        bed.environment["TMPDIR"] = str(scratch)
        self._agents: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, Any] = {}
        """Further tables of config.toml."""

    def add(self, program: Program, url: str, **more: object) -> None:
        """Add the agent that is called as its program."""
        self.bed.environment[program.key] = KEY
        folder = self.bed.home / program.name
        told = {"timeout_seconds": _LONG_SECONDS, **more}
        self.add_table(program.name, program.profile(url, folder, **told))

    def add_table(self, name: str, table: dict[str, Any]) -> None:
        """Add an agent by its table of config.toml."""
        self._agents[name] = {"retries": 0, "retry_delay_seconds": 0, **table}

    def configure(self, tests: str = "") -> None:
        """Make the workspace; `tests` is the command that tests what is to land."""
        self.bed.make(
            config=tomli_w.dumps(
                self.tables
                | {
                    "agent": {"profile": next(iter(self._agents))},
                    "agents": self._agents,
                    "integration": {"run_tests": [tests] if tests else []},
                }
            )
        )

    def play(self, tests: str = "", *, ends: tuple[str, ...] = ()) -> None:
        """Start the daemon and drop the item; with `ends`, wait for one of these states."""
        self.configure(tests)
        self.bed.start()
        self.bed.drop(ITEM)
        if ends:
            self.bed.wait_for(ITEM, *ends)

    @property
    def task(self) -> Task:
        """The item's task as it is stored."""
        with self._store() as store:
            (task,) = store.tasks()
        return task

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts of the task."""
        with self._store() as store:
            return store.attempts(self.task.id)

    @property
    def parked(self) -> dict[str, Parked]:
        """The agents that are parked, or were and have not worked since."""
        with self._store() as store:
            return {row.agent: row for row in store.parked()}

    def wait_until_parked(self, name: str) -> Parked:
        """Wait until an agent is parked and its attempt has been judged."""

        def judged() -> bool:
            with self._store() as store:
                attempts = [each for task in store.tasks() for each in store.attempts(task.id)]
            return any(attempt.verdict for attempt in attempts)

        self.bed.wait(judged, f"{name} is parked")
        assert name in self.parked, self.task.reason
        return self.parked[name]

    def transcript(self, attempt: int = 1) -> list[dict[str, Any]]:
        """Return what one attempt told."""
        file = self._system / "attempts" / str(attempt) / "transcript.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def told_the_key(self) -> list[str]:
        """Return the files of the workspace in which the key stands."""
        root = self.bed.root
        return [
            str(file.relative_to(root))
            for folder in ("tasks", "logs", ".alluvium")
            for file in (root / folder).rglob("*")
            if file.is_file() and not file.is_symlink() and KEY.encode() in file.read_bytes()
        ]

    def processes(self) -> list[str]:
        """Return the living processes that belong to the task."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                mine = process.environ().get("ALLUVIUM_TASK_ID") == self.task.id
            except psutil.Error:
                continue
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"] or ()))
        return found

    @property
    def _system(self) -> Path:
        return self.bed.folder(ITEM) / ".system"

    def _store(self) -> StoreReader:
        return StoreReader(self.bed.root / ".alluvium" / "alluvium.db")


@contextmanager
def nobody() -> Iterator[str]:
    """Give an address at which nobody listens, and nobody else begins to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def model(
    program: Program,
    case: Case,
    on_request: Callable[[Request], None] | None = None,
    **told: Any,
) -> Iterator[ModelServer]:
    """Serve a model that writes hello.txt, with a trouble on the way."""
    script = program.script("hello.txt", case=case, **told)
    with ModelServer(script, on_request=on_request) as server:
        yield server


def seconds(stamp: str) -> float:
    """Return a time of the store in seconds since 1970."""
    return datetime.fromisoformat(stamp).timestamp()
