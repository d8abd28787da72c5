"""The wire of Anthropic's messages, streamed and whole."""

import json
from datetime import UTC, datetime

from model_server.script import Case, Json, Script
from model_server.wire import Answer, Asked, Failure, Stream, sse

KEY_HEADERS = ("x-api-key", "authorization")


def serves(path: str) -> bool:
    """Tell whether messages are asked for."""
    return path.endswith("/messages")


def read(path: str, body: Json) -> Asked:
    """Read what is asked."""
    del path
    messages: list[Json] = body.get("messages") or []
    return Asked(
        model=body.get("model", ""),
        stream=bool(body.get("stream")),
        tools={each["name"]: each.get("input_schema") or {} for each in body.get("tools") or ()},
        calls=sum(_calls(message.get("content")) for message in messages),
        messages=len(messages),
    )


def whole(answer: Answer) -> Json:
    """Return a `message`."""
    return _message(answer, [_block(answer)], _stop_reason(answer), answer.usage.output)


def stream(answer: Answer) -> Stream:
    """Return the events of one message with one block of content."""
    block = _block(answer)
    if answer.call:
        empty = block | {"input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(answer.call.arguments)}
    else:
        empty = block | {"text": ""}
        delta = {"type": "text_delta", "text": answer.text}
    end = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    return Stream(
        opening=[
            _event("message_start", message=_message(answer, [], None, 1)),
            _event("content_block_start", index=0, content_block=empty),
        ],
        delta=_event("content_block_delta", index=0, delta=delta),
        closing=[
            _event("content_block_stop", index=0),
            _event("message_delta", delta=end, usage={"output_tokens": answer.usage.output}),
            _event("message_stop"),
        ],
    )


def failure(script: Script, now: float) -> Failure:
    """Return the body that Anthropic sends; a limit that resets is that of a subscription."""
    match script.case:
        case Case.UNAUTHORIZED:
            return _failure(401, "authentication_error", "invalid x-api-key")
        case Case.RATE_LIMITED:
            reset = datetime.fromtimestamp(now + script.retry_after, UTC)
            return _failure(
                429,
                "rate_limit_error",
                "This request would exceed your organization's rate limit of 50 requests per "
                "minute.",
                {
                    "retry-after": str(script.retry_after),
                    "anthropic-ratelimit-requests-limit": "50",
                    "anthropic-ratelimit-requests-remaining": "0",
                    "anthropic-ratelimit-requests-reset": f"{reset:%Y-%m-%dT%H:%M:%SZ}",
                },
            )
        case Case.QUOTA:
            if script.resets_at is None:
                return _failure(
                    400,
                    "invalid_request_error",
                    "Your credit balance is too low to access the Anthropic API. Please go to "
                    "Plans & Billing to upgrade or purchase credits.",
                )
            return _failure(
                429,
                "rate_limit_error",
                "This request would exceed your account's rate limit. Please try again later.",
                {
                    "retry-after": str(max(1, round(script.resets_at - now))),
                    "anthropic-ratelimit-unified-status": "rejected",
                    "anthropic-ratelimit-unified-reset": str(script.resets_at),
                    "anthropic-ratelimit-unified-representative-claim": "five_hour",
                    "anthropic-ratelimit-unified-overage-status": "rejected",
                },
            )
        case Case.CONTEXT:
            return _failure(
                400,
                "invalid_request_error",
                "prompt is too long: 210000 tokens > 200000 maximum",
            )
        case _:
            return _failure(500, "api_error", "Internal server error")


def _calls(content: object) -> int:
    if not isinstance(content, list):
        return 0
    return sum(block.get("type") == "tool_use" for block in content)


def _block(answer: Answer) -> Json:
    if answer.call:
        return {
            "type": "tool_use",
            "id": f"toolu_{answer.id}",
            "name": answer.call.tool,
            "input": answer.call.arguments,
        }
    return {"type": "text", "text": answer.text}


def _stop_reason(answer: Answer) -> str:
    if answer.refused:
        return "refusal"
    return "tool_use" if answer.call else "end_turn"


def _message(answer: Answer, content: list[Json], stop: str | None, output: int) -> Json:
    usage = answer.usage
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.input - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": output,
        },
    }


def _event(kind: str, **told: object) -> bytes:
    return sse({"type": kind} | told, kind)


def _failure(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None
) -> Failure:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return Failure(status, body | {"request_id": "req_scripted"}, headers or {})
