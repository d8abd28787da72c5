"""What agent programs tell while they work, in one form for all of them.

Each program has an adapter that reads its own stream into these, as they were told: secrets are
masked where one is written. They are kept in transcript.jsonl, one JSON object a line; nothing in
them decides about a task but limits, failures and the end.
"""

from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Final

from alluvium_like.lifecycle import AgentOutcome
from alluvium_like.masking import mask

_LONGEST_TEXT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was told; `kind` names it in transcripts."""

    kind: ClassVar[str] = ""

    def document(self) -> dict[str, object]:
        """Return it as it is written: without what is unknown, and secrets; texts have an end."""
        told = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        cut = {k: mask(v)[:_LONGEST_TEXT] if isinstance(v, str) else v for k, v in told.items()}
        return {"kind": self.kind, **cut}


@dataclass(frozen=True, slots=True)
class Session(Event):
    """The program's own name for this conversation, by which it goes on with it later."""

    kind: ClassVar[str] = "session"
    id: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Message(Event):
    """The model said something; `role` is assistant, or thought."""

    kind: ClassVar[str] = "message"
    text: str
    role: str = "assistant"


@dataclass(frozen=True, slots=True)
class ToolCall(Event):
    """The model used a tool, with what it gave it."""

    kind: ClassVar[str] = "tool_call"
    name: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class FileChange(Event):
    """A file was written, as the program says."""

    kind: ClassVar[str] = "file_change"
    path: str


@dataclass(frozen=True, slots=True)
class Usage(Event):
    """Tokens that were used, and what they cost in US dollars where the program says so.

    `input_tokens` holds the cached ones too. With `total` it stands for the whole run so far, else
    it is to be added.
    """

    kind: ClassVar[str] = "usage"
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    model: str = ""
    total: bool = False

    @property
    def tokens(self) -> int:
        """All of them together."""
        return self.input_tokens + self.output_tokens

    def plus(self, more: "Usage") -> "Usage":
        """Return both together; a cost is known when one of them is."""
        costs = [cost for cost in (self.cost, more.cost) if cost is not None]
        return replace(
            self,
            input_tokens=self.input_tokens + more.input_tokens,
            cached_tokens=self.cached_tokens + more.cached_tokens,
            output_tokens=self.output_tokens + more.output_tokens,
            cost=sum(costs) if costs else None,
            model=more.model or self.model,
        )


@dataclass(frozen=True, slots=True)
class Limit(Event):
    """The provider refuses to go on for now: a burst of requests, or a quota that is used up.

    `resets_at`: seconds since 1970 at which it will go on, None where nobody said.
    """

    kind: ClassVar[str] = "limit"
    text: str
    quota: bool
    resets_at: float | None = None


@dataclass(frozen=True, slots=True)
class Failure(Event):
    """Something went wrong; `outcome` where it is known what that means for the attempt."""

    kind: ClassVar[str] = "error"
    text: str
    outcome: AgentOutcome | None = None


@dataclass(frozen=True, slots=True)
class End(Event):
    """The program told that it is through; nothing follows. `ok`: it says that it went well."""

    kind: ClassVar[str] = "end"
    ok: bool
    text: str = ""
