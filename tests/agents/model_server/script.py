"""What the scripted model does: its commands, text, usage and at most one kind of trouble."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Case(StrEnum):
    """How the model behaves once the script's trouble begins."""

    OK = "ok"
    UNAUTHORIZED = "unauthorized"
    """401 always, as for a wrong key."""
    RATE_LIMITED = "rate_limited"
    """429 with `Retry-After` for the first `times` requests of the server, then all is well."""
    QUOTA = "quota"
    """The usage limit is reached: until `resets_at`, or for good where that is None."""
    BROKEN = "broken"
    """The connection closes in mid-event after the first delta."""
    ENDLESS = "endless"
    """A delta every `interval` seconds, `deltas` times at most; then the connection closes."""
    CONTEXT = "context"
    """400: the history is longer than the model's context."""
    REFUSED = "refused"
    """The answer ends as a refusal of the content."""
    SERVER_ERROR = "server_error"
    """500 always."""


@dataclass(frozen=True)
class Usage:
    """The numbers of tokens that every answer reports; `cached` is a part of `input`."""

    input: int = 1234
    output: int = 56
    cached: int = 200


@dataclass(frozen=True)
class Script:
    """What the model does.

    `commands` are run one by one through the agent's own shell tool; then `text` ends the turn.
    A resumed session counts on from the calls in its history: give the second server the commands
    of both runs, and only an agent that really sent its history runs those of the second.
    A request without tools gets `text` where there are no commands, else `side_text`; a request in
    which a key of `side` occurs gets its value, before anything else. The trouble begins when the
    history holds `after` calls; seconds count `retry_after` and `interval`; `resets_at` is in
    seconds since the epoch.
    """

    commands: tuple[str, ...] = ()
    text: str = "Done."
    side_text: str = "A short title"
    side: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    case: Case = Case.OK
    after: int = 0
    times: int = 1
    retry_after: int = 1
    resets_at: int | None = None
    interval: float = 0.2
    deltas: int = 3000

    @classmethod
    def load(cls, path: Path) -> "Script":
        """Read a script from JSON. Raises TypeError for a key and ValueError for a case unknown."""
        told = json.loads(path.read_text(encoding="utf-8"))
        told["commands"] = tuple(told.get("commands", ()))
        told["usage"] = Usage(**told.get("usage", {}))
        told["case"] = Case(told.get("case", Case.OK))
        return cls(**told)
