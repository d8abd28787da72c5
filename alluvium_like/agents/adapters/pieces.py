"""Pieces of streams that several programs have in common."""

import json
from collections.abc import Iterator
from typing import Final

from alluvium_like.agents.adapters.base import Told
from alluvium_like.agents.events import Event, Failure, FileChange, Message, ToolCall
from alluvium_like.lifecycle import AgentOutcome

API_ERROR: Final = "[API Error: "
"""How gemini and its descendants begin what a provider's refusal says; `]` ends it."""
NO_ANSWER: Final = Failure("the provider's answer was empty", AgentOutcome.UNREACHABLE)
"""Such as a page that asks people to log in; the programs take it for an answer."""
_WRITING: Final = frozenset(
    {"write", "edit", "multiedit", "notebookedit", "write_file", "edit_file", "create_file"}
    | {"replace", "create", "str_replace"}
)
_PATHS: Final = ("file_path", "filePath", "path", "notebook_path")


class Tools:
    """The tools that a run uses. A file counts as written when the tool that writes it ended well.

    What tools give back is for the model: nothing in it is a complaint.
    """

    def __init__(self) -> None:
        self._writing: dict[object, str] = {}

    def begin(self, call: object, name: str, given: object) -> Iterator[Event]:
        """Tell of a tool that begins, by the program's own name for this call of it."""
        if isinstance(given, dict) and name.lower() in _WRITING:
            paths = [given[key] for key in _PATHS if isinstance(given.get(key), str)]
            self._writing[call] = paths[0] if paths else ""
        yield ToolCall(name, _shown(given))

    def end(self, call: object, *, ok: bool) -> Iterator[Event]:
        """Tell of what a tool has done."""
        path = self._writing.pop(call, "")
        if path and ok:
            yield FileChange(path)

    def blocks(self, message: Told) -> Iterator[Event]:
        """Tell of a message that is made of blocks, as Anthropic's API has them."""
        content, own = message["content"], message.get("role") == "assistant"
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list):
            return
        for block in content:
            match block:
                case {"type": "text", "text": str(text)} if own:
                    yield Message(text)
                case {"type": "thinking", "thinking": str(text)}:
                    yield Message(text, "thought")
                case {"type": "tool_use", "id": call, "name": str(name)}:
                    yield from self.begin(call, name, block.get("input"))
                case {"type": "tool_result", "tool_use_id": call}:
                    yield from self.end(call, ok=not block.get("is_error"))


def refusal(text: str) -> str:
    """Return what a refusal says, without the frame that gemini puts around it."""
    said = text.rpartition(API_ERROR)[2]
    return "".join(said.rsplit("]", 1)) if API_ERROR in text else said


def _shown(given: object) -> str:
    if isinstance(given, dict) and isinstance(given.get("command"), str):
        return str(given["command"])
    return json.dumps(given, ensure_ascii=False) if given else ""
