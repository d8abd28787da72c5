"""What an MCP server tells while one of its tools works, as events. Pure.

Any server may tell of its progress and log; codex tells all that it does, as `codex/event`.
"""

from collections.abc import Iterator
from dataclasses import replace

from alluvium_like.agents.adapters.base import Told, whole
from alluvium_like.agents.adapters.rollout import usage_of
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import (
    End,
    Event,
    FileChange,
    Message,
    Session,
    ToolCall,
)


def events_of(message: Told) -> list[Event]:
    """Return what one notification tells."""
    return list(whole(_events_of(message)))


def result_of(result: Told) -> list[Event]:
    """Return what the tool's result tells: a text, or a failure, and the end."""
    texts = [each["text"] for each in result.get("content") or () if each.get("type") == "text"]
    text = "\n".join(texts)
    if result.get("isError"):
        return [event_of(text or "the tool failed"), End(ok=False, text=text)]
    return [Message(text or "(no text)"), End(ok=True)]


def _events_of(message: Told) -> Iterator[Event]:
    match message:
        case {"method": "codex/event", "params": {"msg": dict(told)}}:
            yield from _codex(told)
        case {"method": "notifications/progress", "params": {"message": str(text)}} if text:
            yield Message(text, "thought")
        case {"method": "notifications/message", "params": {"data": data}} if data:
            yield Message(data if isinstance(data, str) else str(data), "thought")


def _codex(told: Told) -> Iterator[Event]:
    match told:
        case {"type": "session_configured", "session_id": str(name), **rest}:
            model = rest.get("model")
            yield Session(name, model if isinstance(model, str) else "")
        case {"type": "agent_message", "message": str(text)}:
            yield Message(text)
        case {"type": "agent_reasoning", "text": str(text)}:
            yield Message(text, "thought")
        case {"type": "token_count", "info": {"total_token_usage": dict(used)}}:
            yield replace(usage_of(used), total=True)  # its thread began with this run
        case {"type": "raw_response_item", "item": {"type": "function_call", **rest}}:
            yield ToolCall(str(rest["name"]), str(rest["arguments"]))
        case {"type": "raw_response_item", "item": {"type": "custom_tool_call", **rest}}:
            yield ToolCall(str(rest["name"]), str(rest["input"]))
        case {"type": "patch_apply_end", "success": True, "changes": dict(changes)}:
            yield from map(FileChange, changes)
        case {"type": "stream_error", "additional_details": str(text)}:
            yield event_of(text)
        case {"type": "error" | "stream_error", "message": str(text)}:
            yield event_of(text)
