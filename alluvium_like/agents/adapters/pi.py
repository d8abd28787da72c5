"""pi: `pi -p --mode json`, a stream of turns; its exit code is 0 whatever happened.

How it went is in the `stopReason` of the model's last message. A turn that ends is the end only if
no other one follows: after an error it begins again by itself, and where the conversation no longer
fits, it may just stop. So the end is told of when the program has ended. Its sessions lie in the
agent's folder.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from alluvium_like.agents.adapters.base import (
    Adapter,
    Call,
    Invocation,
    JsonReader,
    Reader,
    Told,
    complaints_in,
    count,
    dollars,
    option,
)
from alluvium_like.agents.adapters.pieces import NO_ANSWER, Tools
from alluvium_like.agents.adapters.providers import (
    base_urls_in,
    hosts_at,
    hosts_of,
    names_in,
    text_of,
    usual_hosts,
)
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import (
    End,
    Event,
    Failure,
    Message,
    Session,
    Usage,
)

_PASSED_OVER = tuple(f'{{"type":"{name}"' for name in ("message_update", "agent_end"))
"""Objects that repeat what was said so far: long, and nothing new."""


class Pi(Adapter):
    """The command line of pi, the coding agent."""

    name = "pi"
    program = "pi"
    install = "npm install -g @mariozechner/pi-coding-agent"
    resumes = True
    key_variables = (
        *("ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY"),
        *("OPENROUTER_API_KEY", "GROQ_API_KEY", "XAI_API_KEY", "MISTRAL_API_KEY"),
        *("DEEPSEEK_API_KEY", "CEREBRAS_API_KEY", "ZAI_API_KEY", "AI_GATEWAY_API_KEY"),
    )
    login_files = (".pi/agent/auth.json", ".pi/agent/models.json")
    settings_files = (
        ".pi/agent/models.json",
        ".pi/agent/settings.json",
        ".pi/agent/AGENTS.md",
        ".pi/agent/extensions",
        ".pi/agent/skills",
        ".pi/agent/prompts",
    )
    own_folder = ".pi/agent"
    folder_variable = "PI_CODING_AGENT_DIR"

    def invoke(self, call: Call) -> Invocation:
        """Run it in the worktree, with the prompt on stdin."""
        return Invocation(
            (
                *("-p", "--mode", "json", "--session-dir", str(call.home)),
                *option("--model", call.model),
                *option("--session", call.session),
                *call.arguments,
            ),
            {"PI_OFFLINE": "1"},  # looks for no updates, sends nothing of its own
            call.stdin,
        )

    def reader(self, call: Call) -> Reader:
        """Read turns and messages."""
        return _Reader()

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look at its own models, its logins and the keys of the providers it knows."""
        folder = self.folder(environment)
        own = hosts_at(base_urls_in(text_of(folder / "models.json")))
        logins = names_in(text_of(folder / "auth.json"))
        return (*own, *hosts_of(environment, logins)) or usual_hosts()

    def holds_login(self, file: Path, environment: Mapping[str, str]) -> bool:
        """Look into its own files: they are there, and empty, without any login, too."""
        try:
            told = json.loads(file.read_bytes())
        except (OSError, ValueError):
            return False
        if file.name != "models.json":
            return bool(told)
        keys = re.findall(r'"apiKey": "(\w+)"', json.dumps(told))  # a key, or its variable
        return any(environment.get(key) or not key.isupper() for key in keys)


class _Reader(JsonReader):
    def __init__(self) -> None:
        self._end: End | None = None
        self._empty = False
        self._counts = True
        self._tools = Tools()

    def line(self, text: str) -> Iterable[Event]:
        return () if text.startswith(_PASSED_OVER) else super().line(text)

    def object(self, told: Told) -> Iterable[Event]:
        match told:
            case {"type": "session", "id": str(session)}:
                yield Session(session)
            case {"type": "turn_start" | "agent_start" | "auto_retry_start" | "compaction_start"}:
                self._end = None
            case {"type": "message_end", "message": {"role": "assistant"} as message}:
                yield from self._answer(message)
            case {"type": "tool_execution_start", "toolCallId": str(call), "toolName": str(name)}:
                yield from self._tools.begin(call, name, told.get("args"))
            case {"type": "tool_execution_end", "toolCallId": str(call)}:
                yield from self._tools.end(call, ok=not told.get("isError"))
            case {"type": "turn_end", "message": {"role": "assistant", "stopReason": str(reason)}}:
                well = reason == "stop" and not self._empty
                self._end = End(ok=well, text="" if well else reason)

    def _answer(self, message: Told) -> Iterator[Event]:
        """Yield what an answer tells. One that holds nothing is none, if the others are counted."""
        events = list(_message(message))
        self._empty = self._counts and not events and not message.get("content")
        if message.get("content"):
            self._counts = any(isinstance(event, Usage) for event in events)
        yield from (NO_ANSWER,) if self._empty else events

    def error_line(self, text: str) -> Iterable[Event]:
        return complaints_in(text)

    def finish(self) -> Iterable[Event]:
        return () if self._end is None else (self._end,)


def _message(message: Told) -> Iterator[Event]:
    usage = _usage(message.get("usage") or {}, str(message.get("model", "")))
    if usage.tokens:
        yield usage
    for block in message.get("content") or ():
        match block:
            case {"type": "text", "text": str(text)} if text:
                yield Message(text)
            case {"type": "thinking", "thinking": str(text)} if text:
                yield Message(text, "thought")
    match message.get("stopReason"):
        case "error" | "aborted":
            yield event_of(str(message.get("errorMessage") or "it was broken off"))
        case "length":
            yield Failure("the model's last answer was cut off: it was longer than it may be")


def _usage(told: Told, model: str) -> Usage:
    """Return the usage of one request; a cost of 0 is that of a model without a price."""
    cached = count(told.get("cacheRead"))
    read = count(told.get("input")) + cached + count(told.get("cacheWrite"))
    cost = dollars((told.get("cost") or {}).get("total")) or None
    return Usage(read, cached, count(told.get("output")), cost=cost, model=model)
