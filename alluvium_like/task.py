"""The records that the store returns: frozen, as one row was at one moment."""

import json
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from alluvium_like.clock import utc_stamp
from alluvium_like.lifecycle import LandingState, Outcome, State, TaskKind

REPOSITORY: Final = "default"
"""The name of the one repository that a workspace has."""
_SLUG_LENGTH = 40


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What a task says of itself beside its agent and its priority; empty and 0 say nothing.

    `config/task_settings.py` says what each may be.
    """

    title: str = ""
    model: str = ""
    timeout_seconds: float = 0
    max_cost: float = 0
    max_tokens: int = 0
    labels: tuple[str, ...] = ()
    project: str = ""
    tests: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> "TaskSettings":
        """Return what was stored."""
        return cls().changed(json.loads(text))

    def changed(self, told: Mapping[str, Any]) -> "TaskSettings":
        """Return it with what JSON tells; what that does not name stays."""
        lists = {key: tuple(value) for key, value in told.items() if isinstance(value, list)}
        return replace(self, **{**told, **lists})

    def to_json(self) -> str:
        """Return it as it is stored."""
        return json.dumps(self.document())

    def document(self) -> dict[str, object]:
        """Return what it says; what says nothing is left out."""
        return {key: value for key, value in asdict(self).items() if value}

    def is_about(self, label: str, project: str) -> bool:
        """Tell whether it has a label and a project; empty is any."""
        return (not label or label in self.labels) and project in ("", self.project)


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    `start_from` says where the next attempt starts: `base`, `same` (where the last one did:
    `start_commit`, with `start_merge` merged in where that conflicted) or `branch` (continuing
    `head_commit`). `base_commit` is the landed base that the last attempt was given, which tells
    its work from what others did when the base's history is rewritten. `failures` counts the
    attempts that count against `retries`. `kind` is `item`, `revert` (of the landed task `reverts`)
    or `upstream` (what others pushed); `approved_commit` is the work that a person allowed to touch
    protected paths; `input_seal` tells whether what was dropped is as it was (`inbox/seal.py`);
    `agent` is the profile that was chosen for it, empty for the one that config.toml says;
    `settings` is what else it says of itself.
    """

    seq: int
    id: str
    name: str
    repository: str
    state: State
    outcome: Outcome | None
    reason: str
    priority: int
    attempt: int
    failures: int
    revision_round: int
    not_before: str
    start_from: str
    start_commit: str
    start_merge: str
    base_commit: str
    head_commit: str
    summary: str
    merge_commit: str
    kind: TaskKind
    reverts: str
    approved_commit: str
    input_seal: str
    agent: str
    settings: TaskSettings
    created_at: str
    updated_at: str

    @property
    def title(self) -> str:
        """What people call it: what was dropped, where it says no more of itself."""
        return self.settings.title or self.name

    @property
    def branch(self) -> str:
        """The task's branch, without `refs/heads/`."""
        return f"task/{self.id}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of an agent; open while `ended_at` is None. `pid` is None until it was spawned.

    `agent` is the profile that it was run with, `outcome` how the program fared, `session` the
    program's own name of the conversation. Tokens and `cost` (US dollars; `cost_source` says
    whether it was `reported` or `estimated`) are None where nobody knows them.
    """

    task_id: str
    number: int
    pid: int | None
    started: str
    boot_id: str
    started_at: str
    ended_at: str | None
    ending: str | None
    exit_code: int | None
    verdict: str | None
    reason: str
    end_commit: str
    agent: str
    model: str
    session: str
    outcome: str
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost: float | None
    cost_source: str


@dataclass(frozen=True, slots=True)
class Parked:
    """An agent that cannot work before `until`; `times`: how often in a row."""

    agent: str
    outcome: str
    reason: str
    until: str
    times: int
    since: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens that were used, read and written together, and US dollars as far as they are known."""

    tokens: int = 0
    cost: float = 0.0

    def plus(self, more: "Spent") -> "Spent":
        """Return both together."""
        return Spent(self.tokens + more.tokens, self.cost + more.cost)


@dataclass(frozen=True, slots=True)
class Repository:
    """The owner's repository as the store knows it; its base branch is fixed at init."""

    name: str
    path: str
    base_branch: str


@dataclass(frozen=True, slots=True)
class Landing:
    """One journaled advance of a base branch and the tasks that it brings."""

    id: int
    repository: str
    old_commit: str
    new_commit: str
    state: LandingState
    reason: str = ""
    updated_at: str = ""

    @property
    def cut_off(self) -> float | None:
        """When it was begun (seconds since 1970), where the store knows of no end to that."""
        if self.state is not LandingState.PREPARED or not self.updated_at:
            return None
        return datetime.fromisoformat(self.updated_at).timestamp()


def new_task_id(name: str) -> str:
    """Make a fresh id `<utc stamp>-<slug of the name>-<6 hex>`, safe as a file and a ref name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return f"{utc_stamp()}-{slug or 'item'}-{secrets.token_hex(3)}"


def display_name(raw: bytes) -> str:
    """Return a file name as text that is safe to store and show, whatever its bytes are."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
