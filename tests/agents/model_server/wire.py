"""What the wires share: what a request asks, what is answered, how a stream is framed."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from model_server.script import Json, Script, Usage

_SHELL_TOOLS = (
    "bash",
    "Bash",
    "exec_command",
    "shell_command",
    "shell",
    "local_shell",
    "run_shell_command",
    "run_command",
)
_SHELL_ARGUMENTS = ("command", "cmd")


@dataclass(frozen=True)
class Asked:
    """One request, as far as any wire tells it; `tools` holds schemas of arguments by name."""

    model: str
    stream: bool
    tools: Mapping[str, Json]
    calls: int
    messages: int
    max_tokens: int | None = None


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    tool: str
    arguments: Json


@dataclass(frozen=True)
class Answer:
    """What the model says in one turn: a text, or a call where there is one."""

    model: str
    usage: Usage
    text: str = ""
    call: Call | None = None
    refused: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


@dataclass(frozen=True)
class Failure:
    """An answer that is an error."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """The events of an answer: `delta` is the one that may come again and again."""

    opening: Sequence[bytes]
    delta: bytes
    closing: Sequence[bytes]


class Wire(Protocol):
    """One provider's protocol; a module is one."""

    @property
    def KEY_HEADERS(self) -> Sequence[str]:  # noqa: N802
        """Names of the headers that may carry the key."""

    def serves(self, path: str) -> bool:
        """Tell whether a path, without its query, is where this wire's models answer."""

    def read(self, path: str, body: Json) -> Asked:
        """Read what is asked."""

    def whole(self, answer: Answer) -> Json:
        """Return the answer as one body."""

    def stream(self, answer: Answer) -> Stream:
        """Return the answer as events."""

    def failure(self, script: Script, now: float) -> Failure:
        """Return the provider's error for the trouble of a script; `now` in epoch seconds."""


def sse(event: Json, name: str = "") -> bytes:
    """Frame one server-sent event, named where the provider names it."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event)}\n\n".encode()


def shell_call(tools: Mapping[str, Json], command: str) -> Call | None:
    """Return the call that runs a command in the agent's own shell tool; None where it has none."""
    name = next((each for each in _SHELL_TOOLS if each in tools), None)
    if name is None:
        return None
    schema = tools[name]
    properties: Json = schema.get("properties") or {}
    key = next((each for each in _SHELL_ARGUMENTS if each in properties), _SHELL_ARGUMENTS[0])
    listed = str(properties.get(key, {}).get("type")).lower() == "array"
    arguments: Json = {key: ["bash", "-lc", command] if listed else command}
    for required in schema.get("required") or ():
        if required not in arguments:
            boolean = str(properties.get(required, {}).get("type")).lower() == "boolean"
            arguments[required] = False if boolean else "run the scripted command"
    return Call(name, arguments)
