"""mini-swe-agent: `mini -y`, which keeps its whole conversation in one file, the trajectory.

What it prints is for people. The trajectory in the agent's folder holds the facts and is written
anew after each step, whose headline on stdout is the sign to look; the last look is at the end.
Only its `exit_status` says how it went, and only "Submitted" says well: it exits with 0, too, when
the model gave no command three times. Of stderr its lines on repeated requests count. Only the
first cause of an error tells an answer that breaks off from a server that is not there.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from alluvium_like.agents.adapters.base import (
    Adapter,
    Call,
    Invocation,
    Reader,
    Told,
    count,
    dollars,
    option,
    parse,
    whole,
)
from alluvium_like.agents.adapters.pieces import Tools
from alluvium_like.agents.adapters.providers import (
    assigned_in,
    hosts_of,
    text_of,
    usual_hosts,
)
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import End, Event, Failure, Message, Usage
from alluvium_like.lifecycle import AgentOutcome

_SETTINGS: Final = "mini.yaml"
_TRAJECTORY: Final = "trajectory.json"
_LONGEST: Final = 100_000_000
_OWN_SETTINGS: Final = "../config/mini.yaml"
"""The settings that come with it. "mini.yaml" would be one of the worktree, if it has one; from
the worktree this leads to no file, from its folder of settings back into it."""
_COMMAND_SECONDS: Final = 600
"""How long one command of the model may take: its own 30 are too few for most tests."""
_STEP: Final = re.compile(r"mini-swe-agent \(step \d+, \$")
_AGAIN: Final = re.compile(r"Retrying .* in \d+ seconds as it raised (.*)")
_RAISED: Final = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception): .+")
_CAUSE: Final = re.compile(rf"^{_RAISED.pattern}", re.MULTILINE)


class Mini(Adapter):
    """The command line of mini-swe-agent."""

    name = "mini-swe-agent"
    program = "mini"
    install = "uv tool install mini-swe-agent --with mcp"
    key_variables = (
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
        *("GROQ_API_KEY", "MISTRAL_API_KEY", "DEEPSEEK_API_KEY", "XAI_API_KEY"),
    )
    login_files = (
        ".config/mini-swe-agent/.env",
        "Library/Application Support/mini-swe-agent/.env",
    )
    settings_files = (".config/mini-swe-agent/.env",)
    own_folder = ".config/mini-swe-agent"
    folder_variable = "MSWEA_GLOBAL_CONFIG_DIR"
    version_arguments = ("--help",)

    def invoke(self, call: Call) -> Invocation:
        """Run it with a file of settings that holds the prompt; old facts are taken away."""
        settings = call.keep(_SETTINGS, text=_settings(call.prompt))
        trajectory = call.keep(_TRAJECTORY, text="{}\n")
        return Invocation(
            (
                *("-y", "--exit-immediately", *option("-m", call.model)),
                *("-c", _OWN_SETTINGS, "-c", str(settings)),
                *("-o", str(trajectory), *call.arguments),
            ),
            {
                "MSWEA_CONFIGURED": "true",
                "MSWEA_SILENT_STARTUP": "1",
                "MSWEA_COST_TRACKING": "ignore_errors",  # a model without a price is none
                "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "3",  # ten would be minutes
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "TYPER_STANDARD_TRACEBACK": "1",  # the painted one takes many seconds
            },
        )

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look at keys, and into its own file of variables, too."""
        told = {**assigned_in(text_of(self.folder(environment) / ".env")), **environment}
        return hosts_of(told) or usual_hosts()

    def reader(self, call: Call) -> Reader:
        """Read the trajectory."""
        return _Reader(call)


def _settings(prompt: str) -> str:
    """Return settings as JSON that YAML reads the same: every odd character in its long form."""
    task = prompt.encode(errors="replace").decode()
    settings = {
        "run": {"task": task},
        "agent": {"cost_limit": 0},  # budgets are kept from outside
        "environment": {"timeout": _COMMAND_SECONDS},
    }
    text = json.dumps(settings, ensure_ascii=False)
    return re.sub(r"[^ -~]", lambda odd: f"\\U{ord(odd[0]):08x}", text) + "\n"


class _Reader(Reader):
    def __init__(self, call: Call) -> None:
        self._call = call
        self._seen = 0
        self._trouble: Event | None = None

    def line(self, text: str) -> Iterable[Event]:
        if not _STEP.match(text):
            return ()
        self._trouble = None
        return list(self._news(self._read()))

    def error_line(self, text: str) -> Iterable[Event]:
        if found := _AGAIN.match(text):
            self._trouble = event_of(found[1])
            return (self._trouble,)
        if _RAISED.fullmatch(text):  # the trajectory has it, too, if there is one
            self._trouble = event_of(text)
        return ()

    def finish(self) -> Iterable[Event]:
        trajectory = self._read()
        yield from self._news(trajectory)
        match trajectory:
            case {"info": {"exit_status": "Submitted", "submission": str(text)}}:
                yield End(ok=True, text=text)
                return
            case {"info": {"exit_status": str(status)}, "messages": [*_, dict(last)]} if status:
                text = str(last.get("content", status))
                yield Failure(f"it ended with {status}") if text == status else _meaning(text, last)
                yield End(ok=False, text=text)
                return
        if self._trouble is not None:  # the news, if any, were before it
            yield self._trouble

    def _read(self) -> object:
        """Return the trajectory; it is half written for a moment after each step."""
        try:
            return parse(self._call.kept(_TRAJECTORY, limit=_LONGEST).decode(errors="replace"))
        except (ValueError, RecursionError):
            return None

    def _news(self, trajectory: object) -> Iterator[Event]:
        """Yield what is told in messages that were not there at the last look."""
        match trajectory:
            case {"messages": list(messages), "info": {"config": {"model": dict(config)}}}:
                model = str(config.get("model_name", ""))
                fresh, self._seen = messages[self._seen :], len(messages)
                for message in fresh:
                    yield from whole(_message(message, model))


def _meaning(text: str, last: Told) -> Event:
    """Return what an error tells; its first cause knows better that somebody answered, and what."""
    event = event_of(text)
    if isinstance(event, Failure) and event.outcome in (None, AgentOutcome.UNREACHABLE):
        extra = last.get("extra")
        trace = extra.get("traceback") if isinstance(extra, dict) else None
        if cause := _CAUSE.search(trace if isinstance(trace, str) else ""):
            return event_of(f"{text} ({cause[0]})")
    return event


def _message(message: Told, model: str) -> Iterator[Event]:
    """Yield what one message tells; those of the model hold the provider's whole response."""
    extra = message.get("extra") or {}
    response = extra.get("response")
    if not response:
        return
    yield _usage(response["usage"], dollars(extra.get("cost")) or None, model)
    choice = response["choices"][0]
    if text := choice["message"].get("content"):
        yield Message(str(text))
    for call in choice["message"].get("tool_calls") or ():
        given = call["function"]
        yield from Tools().begin(call.get("id"), str(given["name"]), parse(given["arguments"]))
    if choice.get("finish_reason") == "content_filter":
        yield event_of("the model's answer was withheld: content_filter")


def _usage(told: Told, cost: float | None, model: str) -> Usage:
    """Return the usage of one request; no cost is told of models without a price."""
    cached = count((told.get("prompt_tokens_details") or {}).get("cached_tokens"))
    read, written = count(told.get("prompt_tokens")), count(told.get("completion_tokens"))
    return Usage(read, cached, written, cost=cost, model=model)
