"""The wire of OpenAI's chat completions, streamed and whole."""

import json

from model_server.script import Case, Json, Script
from model_server.wire import Answer, Asked, Failure, Stream, sse

KEY_HEADERS = ("authorization",)


def serves(path: str) -> bool:
    """Tell whether chat completions are asked for."""
    return path.endswith("/chat/completions")


def read(path: str, body: Json) -> Asked:
    """Read what is asked."""
    del path
    messages: list[Json] = body.get("messages") or []
    functions = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
    return Asked(
        model=body.get("model", ""),
        stream=bool(body.get("stream")),
        tools={each["name"]: each.get("parameters") or {} for each in functions},
        calls=sum(len(each.get("tool_calls") or ()) for each in messages),
        messages=len(messages),
        max_tokens=body.get("max_tokens"),
    )


def whole(answer: Answer) -> Json:
    """Return a `chat.completion`."""
    message: Json = {"role": "assistant", "content": answer.text or None}
    if answer.call:
        message["tool_calls"] = [_tool_call(answer)]
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(answer)}
    return _head(answer, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}


def stream(answer: Answer) -> Stream:
    """Return `chat.completion.chunk`s, the last with the usage, and the mark of the end."""
    delta: Json = {"content": answer.text}
    if answer.call:
        delta = {"tool_calls": [{"index": 0} | _tool_call(answer)]}
    return Stream(
        opening=[_chunk(answer, {"role": "assistant", "content": ""})],
        delta=_chunk(answer, delta),
        closing=[
            _chunk(answer, {}, _finish_reason(answer)),
            sse(_head(answer, "chat.completion.chunk") | {"choices": [], "usage": _usage(answer)}),
            b"data: [DONE]\n\n",
        ],
    )


def failure(script: Script, now: float) -> Failure:
    """Return the body that OpenAI sends."""
    match script.case:
        case Case.UNAUTHORIZED:
            return unauthorized()
        case Case.RATE_LIMITED:
            return rate_limited(script.retry_after)
        case Case.QUOTA:
            if script.resets_at is None:
                return no_quota()
            wait = max(1, round(script.resets_at - now))
            return Failure(
                429,
                _error(
                    "Rate limit reached for the model in organization org-scripted on requests per "
                    f"day (RPD): Limit 200, Used 200, Requested 1. Please try again in {wait}s. "
                    "Visit https://platform.openai.com/account/rate-limits to learn more.",
                    "requests",
                    "rate_limit_exceeded",
                ),
                {"retry-after": str(wait), "x-ratelimit-remaining-requests": "0"},
            )
        case Case.CONTEXT:
            return Failure(
                400,
                _error(
                    "This model's maximum context length is 128000 tokens. However, your messages "
                    "resulted in 130001 tokens. Please reduce the length of the messages.",
                    "invalid_request_error",
                    "context_length_exceeded",
                    "messages",
                ),
            )
        case _:
            return server_error()


def unauthorized() -> Failure:
    """Return what OpenAI says to a wrong key, on either of its wires."""
    return Failure(
        401,
        _error(
            "Incorrect API key provided: test. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            "invalid_request_error",
            "invalid_api_key",
        ),
    )


def rate_limited(retry_after: int) -> Failure:
    """Return what OpenAI says to a burst; `retry_after` in seconds."""
    return Failure(
        429,
        _error(
            "Rate limit reached for the model in organization org-scripted on tokens per min "
            f"(TPM): Limit 30000, Used 29500, Requested 1200. Please try again in {retry_after}s. "
            "Visit https://platform.openai.com/account/rate-limits to learn more.",
            "tokens",
            "rate_limit_exceeded",
        ),
        {"retry-after": str(retry_after), "x-ratelimit-remaining-tokens": "0"},
    )


def no_quota() -> Failure:
    """Return what OpenAI says when nothing is left to spend."""
    return Failure(
        429,
        _error(
            "You exceeded your current quota, please check your plan and billing details. For more "
            "information on this error, read the docs: "
            "https://platform.openai.com/docs/guides/error-codes/api-errors.",
            "insufficient_quota",
            "insufficient_quota",
        ),
    )


def server_error() -> Failure:
    """Return what OpenAI says when it failed itself."""
    return Failure(
        500,
        _error(
            "The server had an error while processing your request. Sorry about that!",
            "server_error",
            None,
        ),
    )


def _error(message: str, kind: str, code: str | None, param: str | None = None) -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _head(answer: Answer, kind: str) -> Json:
    return {"id": f"chatcmpl-{answer.id}", "object": kind, "created": 0, "model": answer.model}


def _chunk(answer: Answer, delta: Json, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return sse(_head(answer, "chat.completion.chunk") | {"choices": [choice]})


def _tool_call(answer: Answer) -> Json:
    assert answer.call
    function = {"name": answer.call.tool, "arguments": json.dumps(answer.call.arguments)}
    return {"id": f"call_{answer.id}", "type": "function", "function": function}


def _finish_reason(answer: Answer) -> str:
    if answer.refused:
        return "content_filter"
    return "tool_calls" if answer.call else "stop"


def _usage(answer: Answer) -> Json:
    usage = answer.usage
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
