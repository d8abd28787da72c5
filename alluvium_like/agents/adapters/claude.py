"""claude: `claude -p --output-format stream-json`, a stream of messages that ends with a result.

Its last object says whether it went well: `is_error`, while `subtype` tells of success even where
nobody is logged in. What goes wrong on the way it tells in messages of its own that carry an
`error`; they are no words of the model and count for nothing but their kind. Partial messages are
asked for: with them a run that is cut off has told all the tokens that it used.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
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
from alluvium_like.agents.adapters.pieces import Tools
from alluvium_like.agents.adapters.providers import (
    CLAUDE_LOGIN,
    bases_in,
    regional,
    text_of,
    vertex_hosts,
)
from alluvium_like.agents.complaints import event_of, moment
from alluvium_like.agents.events import (
    End,
    Event,
    Failure,
    Limit,
    Session,
    Usage,
)
from alluvium_like.clock import time_of_day
from alluvium_like.lifecycle import AgentOutcome

_OF_REQUESTS: Final = (
    *("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    "output_tokens",
)
_OF_MODELS: Final = (
    *("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"),
    "outputTokens",
)


class Claude(Adapter):
    """The command line of Anthropic's Claude Code."""

    name = "claude"
    program = "claude"
    install = "npm install -g @anthropic-ai/claude-code"
    resumes = True
    key_variables = (
        *("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"),
        *("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"),
    )
    login_files = (".claude/.credentials.json",)
    settings_files = (
        ".claude/settings.json",
        ".claude/settings.local.json",
        ".claude/CLAUDE.md",
        ".claude/agents",
        ".claude/commands",
        ".claude/skills",
    )
    own_folder = ".claude"
    folder_variable = "CLAUDE_CONFIG_DIR"
    costs_at_end = True

    def invoke(self, call: Call) -> Invocation:
        """Run it without questions, in the worktree, with the prompt on stdin."""
        environment = {
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",  # ten would be minutes where nobody listens
        }
        if os.geteuid() == 0:
            environment["IS_SANDBOX"] = "1"  # else it asks questions as root
        return Invocation(
            (
                *("-p", "--output-format", "stream-json", "--verbose"),
                *("--include-partial-messages", "--permission-mode", "bypassPermissions"),
                *option("--model", call.model),
                *option("--resume", call.session),
                *call.arguments,
            ),
            environment,
            call.stdin,
        )

    def reader(self, call: Call) -> Reader:
        """Read messages and the result."""
        return _Reader()

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look into its settings, too, whose variables are its own; a login is made to last."""
        told = {**environment, **_variables(text_of(self.folder(environment) / "settings.json"))}
        if told.get("CLAUDE_CODE_USE_BEDROCK"):
            region = told.get("AWS_REGION") or told.get("AWS_DEFAULT_REGION") or "us-east-1"
            usual = regional("bedrock-runtime.{}.amazonaws.com", region)
            return bases_in(told, ("ANTHROPIC_BEDROCK_BASE_URL",)) or usual
        if told.get("CLAUDE_CODE_USE_VERTEX"):
            return bases_in(told, ("ANTHROPIC_VERTEX_BASE_URL",)) or vertex_hosts(
                told.get("CLOUD_ML_REGION", "")
            )
        found = bases_in(told, ("ANTHROPIC_BASE_URL",)) or ("api.anthropic.com",)
        return found if any(map(told.get, self.key_variables)) else (*found, *CLAUDE_LOGIN)

    def login(self, environment: Mapping[str, str]) -> Login:
        """On macOS a login lies in the keychain, unseen."""
        login = super().login(environment)
        if not login.ready and sys.platform == "darwin":
            return Login(None, "not seen from here: a login would be in the keychain")
        return login


def _variables(settings: str) -> dict[str, str]:
    """Return the variables that settings set."""
    try:
        told = json.loads(settings)["env"]
        return {str(name): str(value) for name, value in told.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


class _Reader(JsonReader):
    def __init__(self) -> None:
        self._model = ""
        self._error = ""
        self._resets_at: float | None = None
        self._written: dict[str, int] = {}
        self._tools = Tools()

    def object(self, told: Told) -> Iterable[Event]:
        match told:
            case {"type": "system", "subtype": "init", "session_id": str(session)}:
                self._model = str(told.get("model", "")).partition("[")[0]
                yield Session(session, self._model)
            case {"type": "system", "subtype": "api_retry"}:
                yield from _retry(told)
            case {"type": "system", "subtype": "model_refusal_no_fallback"}:
                yield Failure("the model refused to answer", AgentOutcome.REFUSED)
            case {
                "type": "rate_limit_event",
                "rate_limit_info": {"status": "rejected", "rateLimitType": str(name)} as info,
            }:  # without a name it is a burst, which the result tells of in better words
                self._resets_at = moment(info.get("resetsAt"))
                text = f"the {name.replace('_', ' ')} limit is reached"
                yield Limit(text, quota=True, resets_at=self._resets_at)
            case {"type": "stream_event", "event": dict(event)}:
                yield from self._progress(event, str(told.get("parent_tool_use_id")))
            case {"type": "assistant", "error": str(error)} if error:
                self._error = error
            case {"type": "assistant" | "user", "message": dict(message)}:
                self._error = ""
                yield from self._tools.blocks(message)
            case {"type": "result"}:
                yield from self._result(told)

    def _progress(self, event: Told, who: str) -> Iterator[Event]:
        """Count what one message reads when it begins, and what it writes as that is told."""
        match event:
            case {"type": "message_start", "message": {"usage": dict(usage)}}:
                self._written[who] = 0
                yield replace(_usage(usage), output_tokens=0, model=self._model)
            case {"type": "message_delta", "usage": {"output_tokens": tokens}}:
                fresh = count(tokens) - self._written.get(who, 0)
                self._written[who] = count(tokens)
                yield Usage(output_tokens=max(fresh, 0), model=self._model)

    def _result(self, told: Told) -> Iterator[Event]:
        usage = self._sum(told)
        if usage.tokens:
            yield usage
        text = str(told.get("result") or "; ".join(map(str, told.get("errors") or ())))
        good = told.get("is_error") is False and told.get("subtype") == "success"
        if good and told.get("stop_reason") != "refusal":
            yield End(ok=True, text=text)
            return
        yield self._trouble(told, text or str(told.get("subtype", "")))
        yield End(ok=False, text=text)

    def _sum(self, told: Told) -> Usage:
        """Return all that this run used, by all models; what came before a resume is not in it."""
        models = told.get("modelUsage") or {}
        parts = [_usage(each, _OF_MODELS) for each in models.values()]
        total = reduce(Usage.plus, parts or [_usage(told.get("usage") or {})])
        cost = dollars(told.get("total_cost_usd"))
        return replace(total, cost=cost, model=self._model, total=True)

    def _trouble(self, told: Told, text: str) -> Event:
        """Return what a result without success means; its fields are surer than its words."""
        if told.get("stop_reason") == "refusal":
            return Failure(text, AgentOutcome.REFUSED)
        if told.get("terminal_reason") == "prompt_too_long":
            return Failure(text, AgentOutcome.CONTEXT)
        status = told.get("api_error_status")
        words = f"{text} ({self._error})" if self._error else text
        return event_of(words, status if isinstance(status, int) else None, self._resets_at)


def _retry(told: Told) -> Iterator[Event]:
    """Yield what a request that is sent again tells; without a status nobody answered."""
    status = told.get("error_status")
    words = str(told.get("error", "")) if status else "connection error: nobody answered"
    back = time_of_day() + (told.get("retry_delay_ms") or 0) / 1000
    event = event_of(f"a request failed: {words}", status, back)
    if isinstance(event, Limit) or event.outcome is AgentOutcome.UNREACHABLE:
        yield event  # others are told of in the end, in better words


def _usage(told: Told, names: tuple[str, str, str, str] = _OF_REQUESTS) -> Usage:
    """Return a usage whose names are told; what was or is now cached is apart from the input."""
    fresh, cached, made, written = (count(told.get(name)) for name in names)
    return Usage(fresh + cached + made, cached, written)
