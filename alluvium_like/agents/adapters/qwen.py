"""qwen: `qwen --output-format stream-json`, a descendant of gemini that tells things like claude.

It exits with 0 and says `success` whatever happened. What the provider refused stands at the end
of what it gives out as the model's last message, and that message used no tokens: this alone tells
it from words of the model. What its `result` counts is the whole session, of earlier runs too, so
messages are counted. Its standard error is trusted until the model has a word.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import (
    Adapter,
    Call,
    Invocation,
    JsonReader,
    Login,
    Reader,
    Told,
    complaints_in,
    count,
    option,
)
from alluvium_like.agents.adapters.pieces import API_ERROR, Tools, refusal
from alluvium_like.agents.adapters.providers import (
    assigned_in,
    base_urls_in,
    hosts_at,
    hosts_of,
    text_of,
)
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import End, Event, Message, Session, Usage

_DEFAULTS: Final = {
    "general": {"enableAutoUpdate": False},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "model": {"generationConfig": {"maxRetries": 0}},
    "memory": {"enableManagedAutoMemory": False},
}
"""Below the person's own settings. By itself it makes one more request at the end, for memories."""
_LOGIN_HOSTS: Final = ("chat.qwen.ai", "portal.qwen.ai", "dashscope.aliyuncs.com")
_KINDS: Final = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "GEMINI_API_KEY": "gemini",
}


class Qwen(Adapter):
    """The command line of Alibaba's qwen."""

    name = "qwen"
    program = "qwen"
    install = "npm install -g @qwen-code/qwen-code"
    resumes = True
    key_variables = tuple(_KINDS)
    login_files = (".qwen/oauth_creds.json",)
    settings_files = (
        ".qwen/settings.json",
        ".qwen/QWEN.md",
        ".qwen/.env",
    )

    own_folder = ".qwen"

    def invoke(self, call: Call) -> Invocation:
        """Run it as one process: started a second time by itself, it would outlive the first."""
        defaults = call.keep("qwen", "defaults.json", text=json.dumps(_DEFAULTS))
        kinds = [kind for name, kind in _KINDS.items() if call.environment.get(name)]
        kind = kinds[0] if kinds and "--auth-type" not in call.arguments else ""
        return Invocation(
            (
                *("--yolo", "--output-format", "stream-json"),
                *option("--auth-type", kind),
                *option("-m", call.model),
                *option("--resume", call.session),
                *call.arguments,
            ),
            {
                "QWEN_CODE_NO_RELAUNCH": "true",
                "QWEN_CODE_SYSTEM_DEFAULTS_PATH": str(defaults),
            },
            call.stdin,
        )

    def reader(self, call: Call) -> Reader:
        """Read messages and the result."""
        return _Reader()

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look at keys, and into its own settings and file of variables, too."""
        folder = self.folder(environment)
        told = {**assigned_in(text_of(folder / ".env")), **environment}
        found = (*hosts_at(base_urls_in(text_of(folder / "settings.json"))), *hosts_of(told))
        return found or ("api.openai.com", *_LOGIN_HOSTS)

    def login(self, environment: Mapping[str, str]) -> Login:
        """Look for a key in its settings, too."""
        try:
            told = json.loads(Path(environment["HOME"], ".qwen/settings.json").read_bytes())
            if told["security"]["auth"]["apiKey"]:
                return Login(True, "with the key in ~/.qwen/settings.json")
        except (OSError, LookupError, TypeError, ValueError, RecursionError):
            pass
        return super().login(environment)


class _Reader(JsonReader):
    def __init__(self) -> None:
        self._tools = Tools()
        self._begun = False
        self._complaint = ""

    def object(self, told: Told) -> Iterable[Event]:
        match told:
            case {"type": "system", "subtype": "init", "session_id": str(session)}:
                self._begun = True
                yield Session(session, str(told.get("model", "")))
            case {"type": "assistant", "message": dict(message)}:
                yield from self._message(message)
            case {"type": "user", "message": dict(message)}:
                yield from self._tools.blocks(message)
            case {"type": "result"}:
                yield from self._result(told)

    def _message(self, message: Told) -> Iterator[Event]:
        used = replace(_usage(message.get("usage")), model=str(message.get("model", "")))
        self._complaint = ""
        for event in self._tools.blocks(message):
            if isinstance(event, Message) and not used.tokens and API_ERROR in event.text:
                self._complaint = refusal(event.text)
                if said := event.text.rpartition(API_ERROR)[0]:
                    yield Message(said, event.role)
            else:
                yield event
        if used.tokens:
            yield used
        if self._complaint:
            yield event_of(self._complaint)

    def _result(self, told: Told) -> Iterator[Event]:
        match told.get("error"):
            case {"message": str(text)}:
                self._complaint = text
                yield event_of(text)
        well = told.get("subtype") == "success" and told.get("is_error") is False
        yield End(ok=well and not self._complaint, text=self._complaint)

    def error_line(self, text: str) -> Iterable[Event]:
        if self._begun:
            return ()
        return (event_of(text),) if text.startswith("No saved session") else complaints_in(text)


def _usage(told: object) -> Usage:
    if not isinstance(told, dict):
        return Usage()
    return Usage(
        input_tokens=count(told.get("input_tokens")),
        cached_tokens=count(told.get("cache_read_input_tokens")),
        output_tokens=count(told.get("output_tokens")),
    )
