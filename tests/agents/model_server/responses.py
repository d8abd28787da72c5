"""The wire of OpenAI's responses, streamed and whole."""

import json

from model_server import chat
from model_server.script import Case, Json, Script
from model_server.wire import Answer, Asked, Failure, Stream, sse

KEY_HEADERS = ("authorization",)
_CALLS = ("function_call", "custom_tool_call", "local_shell_call")


def serves(path: str) -> bool:
    """Tell whether responses are asked for."""
    return path.endswith("/responses")


def read(path: str, body: Json) -> Asked:
    """Read what is asked; tools of the provider's own have a type in a name's place."""
    del path
    told = body.get("input")
    items: list[Json] = told if isinstance(told, list) else []
    tools = body.get("tools") or ()
    return Asked(
        model=body.get("model", ""),
        stream=bool(body.get("stream")),
        tools={each.get("name") or each["type"]: each.get("parameters") or {} for each in tools},
        calls=sum(each.get("type") in _CALLS for each in items),
        messages=len(items) or 1,
    )


def whole(answer: Answer) -> Json:
    """Return a `response`, completed or cut short by the filter."""
    response = _response(answer, "incomplete" if answer.refused else "completed")
    if answer.refused:
        response["incomplete_details"] = {"reason": "content_filter"}
    return response | {"output": [_item(answer, "completed")], "usage": _usage(answer)}


def stream(answer: Answer) -> Stream:
    """Return the events of one response with one item of output."""
    place: Json = {"item_id": _item_id(answer), "output_index": 0}
    item = _item(answer, "completed")
    opening: list[Json] = [
        {"type": "response.created", "response": _response(answer, "in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _empty(_item(answer, "in_progress")),
        },
    ]
    if answer.call:
        arguments = item["arguments"]
        delta = {"type": "response.function_call_arguments.delta", "delta": arguments} | place
        closing = [
            {"type": "response.function_call_arguments.done", "arguments": arguments} | place
        ]
    else:
        place["content_index"] = 0
        part = item["content"][0]
        opening.append({"type": "response.content_part.added", "part": part | {"text": ""}} | place)
        delta = {"type": "response.output_text.delta", "delta": answer.text} | place
        closing = [
            {"type": "response.output_text.done", "text": answer.text} | place,
            {"type": "response.content_part.done", "part": part} | place,
        ]
    end = "response.incomplete" if answer.refused else "response.completed"
    closing += [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": end, "response": whole(answer)},
    ]
    events = [
        sse(event | {"sequence_number": number}, event["type"])
        for number, event in enumerate([*opening, delta, *closing])
    ]
    return Stream(events[: len(opening)], events[len(opening)], events[len(opening) + 1 :])


def failure(script: Script, now: float) -> Failure:
    """Return the body that OpenAI sends; a limit that resets is that of a subscription."""
    match script.case:
        case Case.UNAUTHORIZED:
            return chat.unauthorized()
        case Case.RATE_LIMITED:
            return chat.rate_limited(script.retry_after)
        case Case.QUOTA:
            if script.resets_at is None:
                return chat.no_quota()
            error = {
                "type": "usage_limit_reached",
                "message": "The usage limit has been reached",
                "plan_type": "plus",
                "resets_at": script.resets_at,
                "resets_in_seconds": max(1, round(script.resets_at - now)),
            }
            headers = {
                "x-codex-primary-used-percent": "100",
                "x-codex-primary-window-minutes": "300",
                "x-codex-primary-reset-at": str(script.resets_at),
            }
            return Failure(429, {"error": error}, headers)
        case Case.CONTEXT:
            error = {
                "message": "Your input exceeds the context window of this model. Please adjust "
                "your input and try again.",
                "type": "invalid_request_error",
                "param": "input",
                "code": "context_length_exceeded",
            }
            return Failure(400, {"error": error})
        case _:
            return chat.server_error()


def _response(answer: Answer, status: str) -> Json:
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": answer.model,
        "output": [],
        "usage": None,
    }


def _item_id(answer: Answer) -> str:
    return f"{'fc' if answer.call else 'msg'}_{answer.id}"


def _item(answer: Answer, status: str) -> Json:
    if answer.call:
        return {
            "type": "function_call",
            "id": _item_id(answer),
            "call_id": f"call_{answer.id}",
            "status": status,
            "name": answer.call.tool,
            "arguments": json.dumps(answer.call.arguments),
        }
    return {
        "type": "message",
        "id": _item_id(answer),
        "role": "assistant",
        "status": status,
        "content": [{"type": "output_text", "text": answer.text, "annotations": []}],
    }


def _empty(item: Json) -> Json:
    empty: Json = {"arguments": ""} if "arguments" in item else {"content": []}
    return item | empty


def _usage(answer: Answer) -> Json:
    usage = answer.usage
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input + usage.output,
    }
