"""codex's own file of a thread, the rollout: after each request it holds the tokens of all so far.

The stream tells of them only when a turn has ended well, too late for a budget and never for a run
that is cut off. The file lies in the person's own folder; where it is not found nothing is told.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import count, parse
from alluvium_like.agents.events import Usage

_THREAD: Final = re.compile(r"[0-9a-f-]{36}")
_MOST_AT_ONCE: Final = 20_000_000
_MARKS: Final = (b'"token_count"', b'"turn_context"')


class Rollout:
    """The file of one thread, read on from where the last look ended. Its looks block."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        usual = Path(environment.get("HOME", "")) / ".codex"
        self._folder = Path(environment.get("CODEX_HOME") or usual) / "sessions"
        self._file: Path | None = None
        self._searches = 5
        self._read = 0
        self._sum = Usage()

    def look(self, thread: str) -> Usage:
        """Return what all runs of the thread have used so far, and with which model."""
        with suppress(OSError):
            if self._file is None and self._searches and _THREAD.fullmatch(thread):
                self._searches -= 1  # there may be none, and many others
                self._file = next(self._folder.glob(f"*/*/*/rollout-*-{thread}.jsonl"), None)
            if self._file is not None and self._file.is_file():
                with self._file.open("rb") as stream:
                    self._take(stream)
        return self._sum

    def _take(self, stream: BufferedReader) -> None:
        stream.seek(self._read)
        whole = stream.read(_MOST_AT_ONCE)
        whole = whole[: whole.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if any(mark in line for mark in _MARKS):
                self._take_line(line.decode(errors="replace"))

    def _take_line(self, line: str) -> None:
        try:
            told = parse(line)
        except (ValueError, RecursionError):
            return
        match told:
            case {"type": "turn_context", "payload": {"model": str(model)}}:
                self._sum = replace(self._sum, model=model)
            case {"payload": {"type": "token_count", "info": {"total_token_usage": dict(whole)}}}:
                self._sum = usage_of(whole, self._sum.model)


def usage_of(told: Mapping[str, object], model: str = "") -> Usage:
    """Return the usage in codex's own form: what was cached is within the input."""
    read, cached = count(told.get("input_tokens")), count(told.get("cached_input_tokens"))
    return Usage(read, cached, count(told.get("output_tokens")), model=model)
