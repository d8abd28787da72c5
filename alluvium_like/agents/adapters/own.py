"""The programs of our own: they print events as they are written into transcripts, line by line."""

import sys
from collections.abc import Iterable, Mapping
from typing import ClassVar, Self

from alluvium_like.agents.adapters.base import (
    Adapter,
    Call,
    JsonReader,
    Reader,
    Told,
    count,
    dollars,
)
from alluvium_like.agents.events import (
    End,
    Event,
    Failure,
    FileChange,
    Limit,
    Message,
    Session,
    ToolCall,
    Usage,
)
from alluvium_like.config.agents import Profile
from alluvium_like.lifecycle import AgentOutcome


class Own(Adapter):
    """A module of this package, run as a program by the interpreter that runs the daemon."""

    program = "{python}"
    version_arguments = ()
    module: ClassVar[str]

    def __init__(self, profile: Profile | None = None) -> None:
        self.profile = profile or Profile()

    def of(self, profile: Profile) -> Self:
        """Return it with the keys of a profile."""
        return type(self)(profile)

    def program_line(self, call: Call) -> tuple[str, ...]:
        """Return how Python runs the module, whatever lies in the worktree."""
        return (sys.executable, "-P", "-m", self.module)

    def reader(self, call: Call) -> Reader:
        """Read its events."""
        return _Reader()


class _Reader(JsonReader):
    def object(self, told: Told) -> Iterable[Event]:
        yield event_in(told)

    def error_line(self, text: str) -> Iterable[Event]:
        return ()  # an MCP server says there what it likes


def event_in(told: Mapping[str, object]) -> Event:
    """Return the event of a document. Raises ValueError where it is none."""
    match told:
        case {"kind": "session", "id": str(name), **rest}:
            return Session(name, _text(rest, "model"))
        case {"kind": "message", "text": str(text), **rest}:
            return Message(text, _text(rest, "role") or "assistant")
        case {"kind": "tool_call", "name": str(name), **rest}:
            return ToolCall(name, _text(rest, "text"))
        case {"kind": "file_change", "path": str(path)}:
            return FileChange(path)
        case {"kind": "usage", **rest}:
            return Usage(
                input_tokens=count(rest.get("input_tokens")),
                cached_tokens=count(rest.get("cached_tokens")),
                output_tokens=count(rest.get("output_tokens")),
                cost=dollars(rest.get("cost")),
                model=_text(rest, "model"),
                total=rest.get("total") is True,
            )
        case {"kind": "limit", "text": str(text), "quota": bool(quota), **rest}:
            back = rest.get("resets_at")
            return Limit(text, quota, float(back) if isinstance(back, int | float) else None)
        case {"kind": "error", "text": str(text), **rest}:
            outcome = _text(rest, "outcome")
            return Failure(text, AgentOutcome(outcome) if outcome else None)
        case {"kind": "end", "ok": bool(ok), **rest}:
            return End(ok, _text(rest, "text"))
        case _:
            raise ValueError("no event")


def _text(told: Mapping[str, object], key: str) -> str:
    value = told.get(key)
    return value if isinstance(value, str) else ""
