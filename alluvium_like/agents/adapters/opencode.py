"""opencode: `opencode run --format json`, steps that begin and finish.

It has no word for the end: a step that finishes with `stop` and has none behind it is the end, and
one that finishes with `tool-calls` never is. Where the provider refuses or does not answer it tries
again for a minute, or waits for as long as it was told to, and is silent but for its log on the
standard error, of which the lines about requests are read. A session belongs to the folder that it
was begun in.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from alluvium_like.agents.adapters.reach import below_home
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import End, Event, Message, Session, Usage

_CONFIG: Final = {"autoupdate": False, "share": "disabled", "snapshot": False}
"""Over the person's own. Its snapshots would be a second repository of the worktree."""
_SETTINGS_FILES: Final = ("opencode.json", "opencode.jsonc", "config.json")
_OF_REQUESTS: Final = re.compile(
    r'timestamp=\S+ level=ERROR .*?message="stream error" .*?error\.error="((?:[^"\\]|\\.)*)'
)
_FAILED_START: Final = re.compile(r"Error: (.*)")
_COLOURS: Final = re.compile(r"\x1b\[[\d;]*m")
_ANSWERS: Final = ("text", "reasoning", "tool_use")
_LONGEST_LOG_LINE: Final = 20_000


class Opencode(Adapter):
    """The command line of opencode."""

    name = "opencode"
    program = "opencode"
    install = "npm install -g opencode-ai"
    resumes = True
    key_variables = (
        *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
        "OPENCODE_API_KEY",
    )

    own_folder = ".config/opencode"
    settings_files = (".config/opencode", ".opencode")

    def invoke(self, call: Call) -> Invocation:
        """Run it with a title, which it would else ask a model for, and with its log of errors."""
        return Invocation(
            (
                *("run", "--format", "json", "--auto", "--title", "task"),
                *("--print-logs", "--log-level", "ERROR"),
                *option("-m", call.model),
                *option("--session", call.session),
                *call.arguments,
            ),
            {
                "OPENCODE_CONFIG_CONTENT": json.dumps(_CONFIG),
                "OPENCODE_DISABLE_AUTOUPDATE": "1",
                "OPENCODE_DISABLE_MODELS_FETCH": "1",
                "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            },
            call.stdin,
        )

    def reader(self, call: Call) -> Reader:
        """Read steps and what is in them."""
        return _Reader()

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look at all of its settings but the worktree's, at its logins and at keys."""
        folders = [below_home(environment, ".config/opencode")]
        if other := environment.get("OPENCODE_CONFIG_DIR"):
            folders.append(Path(other))
        files = [folder / name for folder in folders for name in _SETTINGS_FILES]
        if other := environment.get("OPENCODE_CONFIG"):
            files.append(Path(other))
        texts = [environment.get("OPENCODE_CONFIG_CONTENT", ""), *map(text_of, files)]
        own = hosts_at(url for text in texts for url in base_urls_in(text))
        logins = names_in(text_of(below_home(environment, ".local/share/opencode/auth.json")))
        return (*own, *hosts_of(environment, logins)) or (*usual_hosts(), "opencode.ai")

    def login(self, environment: Mapping[str, str]) -> Login:
        """Look for logins it keeps; its configuration may hold keys, so nothing is a sure no."""
        default = Path(environment.get("HOME", ""), ".local/share")
        data = Path(environment.get("XDG_DATA_HOME") or default)
        try:
            kept = json.loads((data / "opencode/auth.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            kept = None
        if kept and isinstance(kept, dict):
            return Login(True, f"to {', '.join(sorted(kept))}")
        seen = super().login(environment)
        return seen if seen.ready else Login(None, "not known; 'opencode auth list' says more")


class _Reader(JsonReader):
    def __init__(self) -> None:
        self._tools = Tools()
        self._session = ""
        self._reason = ""
        self._failure = ""
        self._says_something = False

    def object(self, told: Told) -> Iterable[Event]:
        match told:
            case {"sessionID": str(session)} if session != self._session:
                self._session = session
                yield Session(session)
        self._says_something |= told.get("type") in _ANSWERS
        match told:
            case {"type": "step_start"}:
                self._reason = self._failure = ""
                self._says_something = False
            case {"type": "text", "part": {"text": str(text)}}:
                yield Message(text)
            case {"type": "reasoning", "part": {"text": str(text)}}:
                yield Message(text, "thought")
            case {"type": "tool_use", "part": {"tool": str(name), "state": dict(state)}}:
                yield from self._tools.begin(None, name, state.get("input"))
                yield from self._tools.end(None, ok=state.get("status") == "completed")
            case {"type": "step_finish", "part": dict(part)}:
                self._reason = str(part.get("reason", ""))
                yield from self._step(_usage(part))
            case {"type": "error", "error": dict(error)}:
                yield self._error(error)

    def _step(self, usage: Usage) -> Iterator[Event]:
        """Yield what a step used. One of nothing, not even an end, is none: it asks for ever."""
        if usage.tokens:
            yield usage
        elif not self._says_something and self._reason != "stop":
            self._failure = NO_ANSWER.text
            yield NO_ANSWER

    def _error(self, error: Told) -> Event:
        status = None
        self._failure = str(error.get("name", "error"))
        match error.get("data"):
            case {"message": str(text), **data}:
                self._failure += f": {text}"
                match data.get("metadata"):
                    case {"message": str(more)}:  # a reset connection was closed in mid-answer
                        self._failure += f": {more}"
                found = data.get("statusCode")
                status = found if isinstance(found, int) else None
        return event_of(self._failure, status)

    def error_line(self, text: str) -> Iterable[Event]:
        text = _COLOURS.sub("", text[:_LONGEST_LOG_LINE])
        if found := _OF_REQUESTS.match(text) or _FAILED_START.match(text):
            yield event_of(found[1])

    def finish(self) -> Iterable[Event]:
        if self._failure:
            yield End(ok=False, text=self._failure)
        elif self._reason not in ("", "tool-calls"):
            ok = self._reason == "stop"
            yield End(ok=ok, text="" if ok else f"it stopped because of {self._reason}")


def _usage(part: Told) -> Usage:
    match part.get("tokens"):
        case {"input": fresh, "output": said, "cache": {"read": read, "write": written}, **more}:
            cached = count(read)
            return Usage(
                input_tokens=count(fresh) + cached + count(written),
                cached_tokens=cached,
                output_tokens=count(said) + count(more.get("reasoning")),
                cost=dollars(part.get("cost")) or None,  # 0 is that of a model without a price
            )
    return Usage()
