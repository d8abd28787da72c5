"""codex's own file of a thread, the rollout: after each request it holds the tokens of all so far.

The stream tells of them only when a turn has ended well.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from alluvium_like.agents.adapters.base import Told, count
from alluvium_like.agents.adapters.growing import UUID, Growing
from alluvium_like.agents.events import Usage


class Rollout:
    """The file of one thread. Its looks block."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        usual = Path(environment.get("HOME", "")) / ".codex"
        folder = Path(environment.get("CODEX_HOME") or usual) / "sessions"
        self._file = Growing(folder, b'"token_count"', b'"turn_context"')
        self._sum = Usage()

    def look(self, thread: str) -> Usage:
        """Return what all runs of the thread have used so far, and with which model."""
        if UUID.fullmatch(thread):
            for told in self._file.look(f"*/*/*/rollout-*-{thread}.jsonl"):
                self._take(told)
        return self._sum

    def _take(self, told: Told) -> None:
        match told:
            case {"type": "turn_context", "payload": {"model": str(model)}}:
                self._sum = replace(self._sum, model=model)
            case {"payload": {"type": "token_count", "info": {"total_token_usage": dict(whole)}}}:
                self._sum = usage_of(whole, self._sum.model)


def usage_of(told: Mapping[str, object], model: str = "") -> Usage:
    """Return the usage in codex's own form: what was cached is within the input."""
    read, cached = count(told.get("input_tokens")), count(told.get("cached_input_tokens"))
    return Usage(read, cached, count(told.get("output_tokens")), model=model)
