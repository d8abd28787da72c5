"""codex: `codex exec --json`, a stream of threads, turns and items.

Its sandbox keeps it from committing in a linked worktree (the repository's own files are read-only
there); the daemon commits for it. The end of a turn tells of the tokens of the whole thread, with
those of the runs before a resume; on the way they are read from its own file of the thread. Only
errors outside of items count: one that is an item is a warning. For how long it waits before it
asks again, an hour if the provider says so, only its log on the standard error tells.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import (
    Adapter,
    Call,
    Invocation,
    JsonReader,
    Reader,
    Told,
    option,
)
from alluvium_like.agents.adapters.codex_settings import hosts_asked
from alluvium_like.agents.adapters.rollout import Rollout, usage_of
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import (
    End,
    Event,
    FileChange,
    Message,
    Session,
    ToolCall,
    Usage,
)
from alluvium_like.clock import time_of_day

_QUIET: Final = (
    *("-c", "features.unbounded_connection_retries=false"),  # else it never ends without a network
    *("-c", "analytics.enabled=false", "-c", "check_for_update_on_startup=false"),
)
_LOG: Final = "error,codex_core::responses_retry=warn"
_WAITS: Final = re.compile(
    r"\S+ +WARN codex_core::responses_retry: .*\bretrying sampling request "
    r"\(\d+/\d+ in (\d+(?:\.\d+)?)(m?s)\).*? sampling_error=(.*\b429\b.*)"
)
_LONGEST_LOG_LINE: Final = 20_000
_AGAIN: Final = re.compile(r"Reconnecting\.\.\. .*? \((.*)\)", re.DOTALL)


class Codex(Adapter):
    """The command line of OpenAI's codex."""

    name = "codex"
    program = "codex"
    install = "npm install -g @openai/codex"
    resumes = True
    key_variables = ("CODEX_API_KEY",)
    login_files = (".codex/auth.json", ".codex/config.toml")
    settings_files = (
        ".codex/config.toml",
        ".codex/AGENTS.md",
        ".codex/prompts",
        ".codex/rules",
        ".codex/skills",
    )
    own_folder = ".codex"
    folder_variable = "CODEX_HOME"

    def invoke(self, call: Call) -> Invocation:
        """Run it in its sandbox, which may write the worktree and the agent's folder."""
        roots = json.dumps([str(call.home.parent)], ensure_ascii=False)
        return Invocation(
            (
                *("exec", *(("resume",) if call.session else ())),
                *("--json", "--skip-git-repo-check", *_QUIET),
                *("-c", f'sandbox_mode="{sandbox_mode(call)}"'),
                *("-c", f"sandbox_workspace_write.writable_roots={roots}"),
                *option("-m", call.model),
                *(*call.arguments, *((call.session,) if call.session else ()), "-"),
            ),
            {"RUST_LOG": _LOG},
            call.stdin,
        )

    def reader(self, call: Call) -> Reader:
        """Read threads, items and turns."""
        return _Reader(call)

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Ask its settings which provider is meant."""
        return hosts_asked(environment, arguments)

    def holds_login(self, file: Path, environment: Mapping[str, str]) -> bool:
        """Look which provider the settings name, too: it may have a key of its own."""
        if file.name == "config.toml":
            return bool(environment.get(_key_of_provider(file)))
        return super().holds_login(file, environment)


def sandbox_mode(call: Call) -> str:
    """Return the mode of its own sandbox, which cannot be made inside of a box of ours."""
    return "danger-full-access" if call.boxed else "workspace-write"


class _Reader(JsonReader):
    def __init__(self, call: Call) -> None:
        self._told = call.told
        self._rollout = Rollout(call.environment)
        self._thread = ""
        self._used = Usage()
        self._begun: set[str] = set()
        self._back = 0.0

    def object(self, told: Told) -> Iterable[Event]:
        match told:
            case {"type": "thread.started", "thread_id": str(thread)}:
                self._thread = thread
                yield Session(thread)
            case {"type": "item.started" | "item.completed" as when, "item": dict(item)}:
                yield from self._item(item, done=when == "item.completed")
                yield from self._so_far()
            case {"type": "error", "message": str(text)}:
                again = _AGAIN.fullmatch(text)
                yield self._complaint(again[1] if again else text)
            case {"type": "turn.failed", "error": dict(error)}:
                text = str(error.get("message", ""))
                yield self._complaint(text)
                yield End(ok=False, text=text)
            case {"type": "turn.completed", **rest}:
                yield from self._so_far(usage_of(rest.get("usage") or {}))
                yield End(ok=True)

    def error_line(self, text: str) -> Iterable[Event]:
        if found := _WAITS.match(text[:_LONGEST_LOG_LINE]):
            self._back = time_of_day() + float(found[1]) / (1000 if found[2] == "ms" else 1)
            yield self._complaint(found[3])

    def finish(self) -> Iterable[Event]:
        return self._so_far()

    def _complaint(self, text: str) -> Event:
        """Return what a complaint tells; one of a wait that goes on ends when that is over."""
        return event_of(text, resets_at=self._back if self._back > time_of_day() else None)

    def _so_far(self, whole: Usage | None = None) -> Iterator[Event]:
        """Yield what this run has used if that has changed: the thread's sum without the known."""
        seen = self._rollout.look(self._thread)
        whole = replace(whole, model=seen.model) if whole else seen
        used = Usage(
            max(whole.input_tokens - self._told.input_tokens, 0),
            max(whole.cached_tokens - self._told.cached_tokens, 0),
            max(whole.output_tokens - self._told.output_tokens, 0),
            model=whole.model,
            total=True,
        )
        if used.tokens > self._used.tokens:
            self._used = used
            yield used

    def _item(self, item: Told, *, done: bool) -> Iterator[Event]:
        match item:
            case {"type": "agent_message", "text": str(text)} if done:
                yield Message(text)
            case {"type": "reasoning", "text": str(text)} if done:
                yield Message(text, "thought")
            case {"type": "file_change", "changes": list(changes), **rest} if done:
                if rest.get("status") != "failed":
                    yield from (FileChange(str(change["path"])) for change in changes)
            case {"type": "command_execution" | "mcp_tool_call" | "web_search" as kind}:
                if self._is_new(item):  # a short one may be told of only when it is done
                    name = "shell" if kind == "command_execution" else kind
                    given = item.get("command") or item.get("tool") or item.get("query") or ""
                    yield ToolCall(name, str(given))

    def _is_new(self, item: Told) -> bool:
        name = str(item.get("id"))
        new = name not in self._begun
        self._begun.add(name)
        return new


def _key_of_provider(settings: Path) -> str:
    """Return the variable that the chosen provider's key is in, empty where nothing names one."""
    try:
        told = tomllib.loads(settings.read_text())
        provider = told["model_providers"][told["model_provider"]]
        return str(provider.get("env_key", ""))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""
