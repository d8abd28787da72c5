"""One request to an OpenAI-compatible service, and what its answer or its refusal says."""

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from alluvium_like.agents.adapters.base import count, dollars
from alluvium_like.agents.adapters.pieces import NO_ANSWER
from alluvium_like.agents.complaints import event_of, moment
from alluvium_like.agents.events import Failure, Limit, Usage
from alluvium_like.clock import time_of_day
from alluvium_like.lifecycle import AgentOutcome

_MOST_BYTES: Final = 20_000_000
_CONNECT_SECONDS: Final = 30.0
_OPENAI: Final = "api.openai.com"
_RETRY: Final = "retry-after"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of whom. `max_tokens` of the answer: None says nothing of it."""

    base_url: str
    key: str
    model: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int | None

    @property
    def body(self) -> dict[str, Any]:
        """The request; OpenAI itself has another name for the limit, which others need not know."""
        own = urlsplit(self.base_url).hostname == _OPENAI
        limit = "max_completion_tokens" if own else "max_tokens"
        told: dict[str, Any] = {"model": self.model, "messages": self.messages, "stream": False}
        return told if self.max_tokens is None else told | {limit: self.max_tokens}


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; `cut_off`: its length reached the limit."""

    text: str
    usage: Usage
    cut_off: bool


def ask(question: Question) -> Answer | Limit | Failure:
    """Ask once. How long that may take, the daemon says: it ends us."""
    headers = {"authorization": f"Bearer {question.key}"} if question.key else {}
    url = f"{question.base_url.rstrip('/')}/chat/completions"
    timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
    try:
        with httpx.stream(
            "POST", url, json=question.body, headers=headers, timeout=timeout
        ) as answer:
            raw = _read(answer)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return _unreachable(error)
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        told = raw.decode("utf-8", "replace").strip()
    if answer.status_code != httpx.codes.OK:
        return _refusal(told, answer)
    return read_answer(told, question.model)


def read_answer(told: object, model: str) -> Answer | Failure:
    """Return what a `chat.completion` says."""
    match told:
        case {"choices": [{"message": {"refusal": str(text)}}, *_]} if text:
            return Failure(text, AgentOutcome.REFUSED)
        case {"choices": [{"finish_reason": "content_filter"}, *_]}:
            return Failure("the answer was withheld: content_filter", AgentOutcome.REFUSED)
        case {"choices": [{"message": {"content": str(text)}, **rest}, *_], **more}:
            cut_off = rest.get("finish_reason") == "length"
            if text.strip() or cut_off:
                return Answer(text, _usage(more.get("usage"), model), cut_off)
    return NO_ANSWER


def _usage(told: object, model: str) -> Usage:
    if not isinstance(told, dict):
        return Usage(model=model)
    details = told.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(
        count(told.get("prompt_tokens")),
        count(cached),
        count(told.get("completion_tokens")),
        dollars(told.get("cost")),
        model,
    )


def _read(answer: httpx.Response) -> bytes:
    read = bytearray()
    for part in answer.iter_bytes():
        read += part
        if len(read) > _MOST_BYTES:
            raise ValueError(f"the answer is longer than {_MOST_BYTES} bytes")
    return bytes(read)


def _unreachable(error: Exception) -> Limit | Failure:
    event = event_of(f"{type(error).__name__}: {error}")
    known = isinstance(event, Limit) or event.outcome is not None
    return event if known else Failure(event.text, AgentOutcome.UNREACHABLE)


def _refusal(told: object, answer: httpx.Response) -> Limit | Failure:
    match told:
        case {"error": {"message": str(text), **rest}}:
            words = " ".join([text, *(str(rest[key]) for key in ("type", "code") if rest.get(key))])
        case _:
            words = told if isinstance(told, str) else json.dumps(told)
    wait = moment_of(answer.headers.get(_RETRY, ""))
    return event_of(words or answer.reason_phrase, answer.status_code, wait)


def moment_of(wait: str) -> float | None:
    """Return when a header Retry-After lets us go on: it holds seconds, or a date."""
    return time_of_day() + int(wait) if wait.isdecimal() else moment(wait)
