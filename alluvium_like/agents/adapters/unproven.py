"""Programs that were not run yet: goose, cursor-agent, copilot and amp, as their documents say.

Each is read for what it can hardly mean otherwise; what is not understood is passed over, and
without a word of its end that is understood a run counts as cut off.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Final

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
from alluvium_like.agents.adapters.pieces import Tools
from alluvium_like.agents.adapters.providers import (
    COPILOT,
    bases_in,
    hosts_at,
    hosts_of,
    text_of,
    usual_hosts,
)
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import End, Event, Message, Session, ToolCall, Usage

_NODE: Final = {"NODE_USE_ENV_PROXY": "1"}
"""Node 24 and newer then does what HTTPS_PROXY says; older ones leave that to the program."""
_HOST: Final = re.compile(r"^\s*\w+_HOST\s*:\s*[\"']?(\S+?)[\"']?\s*$", re.MULTILINE)


class _Unproven(Adapter):
    """A program whose stream is more or less that of claude."""

    proven = False

    def reader(self, call: Call) -> Reader:
        """Read whatever it tells."""
        return _Reader()


class Goose(_Unproven):
    """The command line of Block's goose."""

    name = "goose"
    program = "goose"
    install = "see https://block.github.io/goose/docs/getting-started/installation"
    own_folder = ".config/goose"
    settings_files = (".config/goose/config.yaml", ".config/goose/.goosehints")

    def invoke(self, call: Call) -> Invocation:
        """Run it without a session: it names them by itself."""
        return Invocation(
            (
                *("run", "-i", str(call.prompt_file), "--output-format", "stream-json"),
                *("-q", "--no-session", *option("--model", call.model), *call.arguments),
            ),
            {"GOOSE_MODE": "auto", "GOOSE_TELEMETRY_ENABLED": "false"},
        )

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look at keys, and at the addresses in its settings."""
        settings = text_of(self.folder(environment) / "config.yaml")
        return (*hosts_at(_HOST.findall(settings)), *hosts_of(environment)) or usual_hosts()


class CursorAgent(_Unproven):
    """The command line of Cursor."""

    name = "cursor-agent"
    program = "cursor-agent"
    install = "see https://cursor.com/docs/cli/installation"
    resumes = True
    key_variables = ("CURSOR_API_KEY",)
    login_files = (".config/cursor/auth.json",)
    own_folder = ".cursor"
    settings_files = (".cursor/cli-config.json", ".cursor/mcp.json")
    vendor_hosts = ("*.cursor.sh", "*.cursorapi.com")
    proxy_environment = _NODE

    def invoke(self, call: Call) -> Invocation:
        """Run it with the prompt on its standard input."""
        return Invocation(
            (
                *("-p", "--output-format", "stream-json", "--force", "--trust"),
                *("--workspace", str(call.worktree)),
                *option("--model", call.model),
                *option("--resume", call.session),
                *call.arguments,
            ),
            stdin=call.stdin,
        )


class Copilot(_Unproven):
    """The command line of GitHub's copilot."""

    name = "copilot"
    program = "copilot"
    install = "npm install -g @github/copilot"
    resumes = True
    key_variables = ("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN")
    login_files = (".copilot/config.json",)
    own_folder = ".copilot"
    settings_files = (".copilot/mcp-config.json",)
    folder_variable = "COPILOT_HOME"
    vendor_hosts = COPILOT
    proxy_environment = _NODE

    def invoke(self, call: Call) -> Invocation:
        """Run it with the prompt's file among its arguments, which all can see and have an end."""
        return Invocation(
            (
                *("-p", _look_at(call), "--output-format", "json", "--allow-all", "--no-ask-user"),
                *option("--model", call.model),
                *option("--resume", call.session),
                *call.arguments,
            ),
            {"COPILOT_AUTO_UPDATE": "false"},
        )


class Amp(_Unproven):
    """The command line of Sourcegraph's amp."""

    name = "amp"
    program = "amp"
    install = "npm install -g @sourcegraph/amp"
    resumes = True
    key_variables = ("AMP_API_KEY",)
    login_files = (".local/share/amp/secrets.json",)
    own_folder = ".config/amp"
    settings_files = (".config/amp/settings.json",)
    vendor_hosts = ("ampcode.com", "*.ampcode.com")
    proxy_environment = _NODE

    def invoke(self, call: Call) -> Invocation:
        """Run it with the prompt's file among its arguments; it chooses its models by itself."""
        thread = ("threads", "continue", call.session) if call.session else ()
        return Invocation(
            (
                *(*thread, "-x", _look_at(call), "--stream-json", "--dangerously-allow-all"),
                *call.arguments,
            ),
            {"AMP_SKIP_UPDATE_CHECK": "1"},
        )

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Return those of its service, of which there may be another one."""
        return bases_in(environment, ("AMP_URL",)) or self.vendor_hosts


def _look_at(call: Call) -> str:
    return f"Read {call.prompt_file} and do what it says."


class _Reader(JsonReader):
    _SESSION: ClassVar = ("session_id", "sessionId", "thread_id")

    def __init__(self) -> None:
        self._tools = Tools()
        self._session = ""
        self._failure = ""

    def object(self, told: Told) -> Iterable[Event]:
        yield from self._named(told)
        match told:
            case {"type": "assistant" | "user", "message": dict(message)}:
                yield from self._tools.blocks(message)
            case {"type": "message", "message": {"role": "assistant", "content": list(content)}}:
                yield from _parts(content)
            case {"type": "error"}:
                self._failure = _words(told.get("error") or told.get("message"))
                yield event_of(self._failure)
            case {"type": "complete"}:
                yield Usage(count(told.get("total_tokens")), total=True)
                yield End(ok=not self._failure, text=self._failure)
            case {"type": "result"}:
                yield from self._result(told)

    def _named(self, told: Told) -> Iterator[Event]:
        for key in self._SESSION:
            name = told.get(key)
            if isinstance(name, str) and name != self._session:
                self._session = name
                yield Session(name, _words(told.get("model")))

    def _result(self, told: Told) -> Iterator[Event]:
        match told.get("usage"):
            case dict(usage):
                cached = count(usage.get("cache_read_input_tokens"))
                fresh = count(usage.get("input_tokens")) + cached
                written = count(usage.get("output_tokens"))
                cost = dollars(told.get("total_cost_usd"))
                yield Usage(fresh, cached, written, cost, total=True)
        bad = bool(told.get("is_error") or told.get("error") or told.get("exitCode"))
        bad = bad or told.get("subtype", "success") != "success"
        text = _words(told.get("error") or told.get("result")) if bad else self._failure
        if bad:
            yield event_of(text)
        yield End(ok=not bad and not self._failure, text=text)

    def error_line(self, text: str) -> Iterable[Event]:
        return complaints_in(text)


def _parts(content: list[object]) -> Iterator[Event]:
    """Tell of a message in the shape of goose."""
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                yield Message(text)
            case {"type": "toolRequest", "toolCall": {"value": {"name": str(name)}}}:
                yield ToolCall(name)


def _words(told: object) -> str:
    if isinstance(told, dict):
        told = told.get("message") or told.get("error")
    return told if isinstance(told, str) else ""
