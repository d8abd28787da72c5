"""gemini: `gemini --output-format stream-json`, one JSON object a line, `result` at the end.

A `result` of success after an `error` with nothing behind it is none: it stopped by itself. A
refusal for safety may be told as success; Git shows that nothing was done. Ended by a signal it
exits with 0 and without a `result`. Of its standard error only what stands there before the model
has a word is trusted, and its own lines about requests; they alone say when a quota is back.

Only its `result` tells of tokens. On the way they are read from its own file of the session, which
a resumed run goes on with: what is older than the run is not its own.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
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
from alluvium_like.agents.adapters.growing import UUID, Growing
from alluvium_like.agents.adapters.pieces import Tools, refusal
from alluvium_like.agents.adapters.providers import (
    GOOGLE_LOGIN,
    assigned_in,
    bases_in,
    text_of,
    vertex_hosts,
)
from alluvium_like.agents.complaints import event_of, reset_in
from alluvium_like.agents.events import End, Event, Limit, Message, Session, Usage

_HOME: Final = "GEMINI_CLI_HOME"
_OWN_FOLDER: Final = "gemini"
_USUAL_HOST: Final = ("generativelanguage.googleapis.com",)
_SETTINGS: Final = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "general": {
        "maxAttempts": 3,
        "retryFetchErrors": False,
        "enableAutoUpdate": False,
        "enableAutoUpdateNotification": False,
    },
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
}
_OF_REQUESTS: Final = re.compile(r"Attempt \d+ failed")
_WHEN_BACK: Final = re.compile(r"\W*Please retry in [\dhms.]+")
_FAILED_START: Final = re.compile(r"Error\b|When using|Invalid auth|Please set an Auth")
_LONGEST_HELD: Final = 8000


class Gemini(Adapter):
    """The command line of Google's gemini."""

    name = "gemini"
    program = "gemini"
    install = "npm install -g @google/gemini-cli"
    resumes = True
    key_variables = ("GEMINI_API_KEY",)
    login_files = (".gemini/oauth_creds.json", ".gemini/gemini-credentials.json")
    settings_files = (
        ".gemini/settings.json",
        ".gemini/GEMINI.md",
        ".gemini/.env",
    )

    own_folder = ".gemini"

    def invoke(self, call: Call) -> Invocation:
        """Run it with the person's settings; with ours where there is a key and nothing else."""
        environment = {"GEMINI_CLI_NO_RELAUNCH": "true"}
        if _has_only_a_key(call.environment):
            call.keep(_OWN_FOLDER, ".gemini", "settings.json", text=json.dumps(_SETTINGS))
            environment[_HOME] = str(_home(call))
        return Invocation(
            (
                *("--yolo", "--skip-trust", "--output-format", "stream-json"),
                *option("-m", call.model),
                *option("-r", call.session),
                *call.arguments,
            ),
            environment,
            call.stdin,
        )

    def reader(self, call: Call) -> Reader:
        """Read messages, tools and the result."""
        return _Reader(call)

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look into its own file of variables, too; a login goes by another service than a key."""
        folder = Path(environment.get(_HOME) or environment.get("HOME", "")) / ".gemini"
        told = {**assigned_in(text_of(folder / ".env")), **environment}
        if told.get("GOOGLE_GENAI_USE_VERTEXAI") == "true":
            return bases_in(told, ("GOOGLE_VERTEX_BASE_URL",)) or vertex_hosts(
                told.get("GOOGLE_CLOUD_LOCATION", "")
            )
        found = bases_in(told, ("GOOGLE_GEMINI_BASE_URL",)) or _USUAL_HOST
        if told.get("GEMINI_API_KEY") and not told.get("GOOGLE_GENAI_USE_GCA"):
            return found
        ask = bases_in(told, ("CODE_ASSIST_ENDPOINT",)) or ("cloudcode-pa.googleapis.com",)
        return (*found, *ask, *GOOGLE_LOGIN)

    def login(self, environment: Mapping[str, str]) -> Login:
        """Look for Vertex AI, too."""
        place = environment.get("GOOGLE_CLOUD_PROJECT") and environment.get("GOOGLE_CLOUD_LOCATION")
        vertex = environment.get("GOOGLE_GENAI_USE_VERTEXAI") == "true"
        if vertex and (place or environment.get("GOOGLE_API_KEY")):
            return Login(True, "with Vertex AI")
        return super().login(environment)


def _has_only_a_key(environment: Mapping[str, str]) -> bool:
    settings = Path(environment.get("HOME", ""), ".gemini/settings.json")
    others = (_HOME, "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA")
    return (
        bool(environment.get("GEMINI_API_KEY"))
        and not any(environment.get(name) for name in others)
        and not settings.exists()
    )


def _home(call: Call) -> Path:
    """Return the folder that holds its `.gemini`."""
    if _has_only_a_key(call.environment):
        return call.home / _OWN_FOLDER
    return Path(call.environment.get(_HOME) or call.environment.get("HOME", ""))


class _Requests:
    """The tokens of each request of a run, from the file of its session. Its looks block."""

    def __init__(self, call: Call) -> None:
        self._file = Growing(_home(call) / ".gemini/tmp", b'"tokens"')
        self._used: dict[str, Usage] = {}

    def look(self, session: str, begun_at: str) -> Usage:
        """Return all that was used since a time, which is told as the program writes it."""
        if UUID.fullmatch(session):
            for told in self._file.look(f"*/chats/session-*-{session[:8]}.jsonl"):
                match told:  # a request is told of again with what its tools gave
                    case {"id": str(name), "timestamp": str(at), "tokens": dict(tokens)}:
                        if at >= begun_at:
                            self._used[name] = _usage(tokens, str(told.get("model", "")))
        return reduce(Usage.plus, self._used.values(), Usage(total=True))


def _usage(tokens: Told, model: str) -> Usage:
    """Return the tokens of one request; those of its thoughts are in the total alone."""
    read = count(tokens.get("input"))
    written = max(count(tokens.get("total")) - read, count(tokens.get("output")))
    return Usage(read, count(tokens.get("cached")), written, model=model)


class _Reader(JsonReader):
    def __init__(self, call: Call) -> None:
        self._requests = _Requests(call)
        self._session = self._begun_at = ""
        self._used = Usage()
        self._tools = Tools()
        self._begun = False
        self._said = ""
        self._stopped = ""
        self._limit: Limit | None = None
        self._back: float | None = None

    def object(self, told: Told) -> Iterable[Event]:
        match told:
            case {"type": "message", "role": "assistant", "content": str(text)}:
                self._said += text
                self._get_on()
                if len(self._said) > _LONGEST_HELD:
                    yield from self._whole_message()
                return
        yield from self._whole_message()
        match told:
            case {"type": "init", "session_id": str(session)}:
                self._begun = True
                self._session, self._begun_at = session, str(told.get("timestamp", ""))
                yield Session(session, str(told.get("model", "")))
            case {"type": "tool_use", "tool_id": call, "tool_name": str(name)}:
                self._get_on()
                yield from self._tools.begin(call, name, told.get("parameters"))
                yield from self._so_far()
            case {"type": "tool_result", "tool_id": call}:
                yield from self._tools.end(call, ok=told.get("status") == "success")
                yield from self._so_far()
            case {"type": "error", "message": str(text)}:
                self._stopped = text
                yield self._complaint(text)
            case {"type": "result"}:
                yield from self._result(told)

    def _result(self, told: Told) -> Iterator[Event]:
        match told.get("stats"):
            case {"input_tokens": read, "output_tokens": written, **stats}:
                told_so = {"input": read, "output": written, "cached": stats.get("cached")}
                whole = {**told_so, "total": stats.get("total_tokens")}
                self._used = replace(_usage(whole, _busiest(stats.get("models"))), total=True)
                yield self._used
        match told.get("error"):
            case {"message": str(text)}:
                self._stopped = refusal(text)
                yield self._complaint(self._stopped)
        yield End(ok=told.get("status") == "success" and not self._stopped, text=self._stopped)

    def _so_far(self) -> Iterator[Event]:
        """Yield what this run has used, if that is more than what was told."""
        used = self._requests.look(self._session, self._begun_at)
        if used.tokens > self._used.tokens:
            self._used = used
            yield used

    def _get_on(self) -> None:
        """Forget what stood in the way: it got over that."""
        self._stopped, self._limit, self._back = "", None, None

    def _complaint(self, text: str) -> Event:
        event = event_of(text)
        if isinstance(event, Limit):
            self._limit = event
        return event

    def _whole_message(self) -> Iterator[Event]:
        """Yield what came in pieces as the one message that it is."""
        said, self._said = self._said, ""
        if said:
            yield Message(said)

    def error_line(self, text: str) -> Iterable[Event]:
        if self._begun and _WHEN_BACK.match(text):
            self._back = reset_in(text.lower())
        elif _OF_REQUESTS.match(text) or (not self._begun and _FAILED_START.match(text)):
            yield from self._whole_message()
            yield event_of(text)
        elif not self._begun:
            yield from complaints_in(text)

    def finish(self) -> Iterable[Event]:
        yield from self._whole_message()
        yield from self._so_far()
        if self._limit is not None and self._limit.resets_at is None and self._back is not None:
            yield replace(self._limit, resets_at=self._back)


def _busiest(models: object) -> str:
    """Return the model that did the most: a run may use several."""
    named = models if isinstance(models, dict) else {}
    return max(named, key=lambda name: count(named[name].get("total_tokens")), default="")
