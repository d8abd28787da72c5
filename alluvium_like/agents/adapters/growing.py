"""A file of JSON lines that a program lets grow while it runs, read on from the last look.

Some programs tell of tokens only when they have ended well: too late for a budget, and never for a
run that is cut off. Their own file of the session holds them after each request. It lies in the
person's own folder, or the agent's; where it is not found nothing is told.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import Told, parse

UUID: Final = re.compile(r"[0-9a-f-]{36}")
"""What a session is called; nothing else may become a part of a pattern."""
_MOST_AT_ONCE: Final = 20_000_000


class Growing:
    """The files of one session below a folder, of which the lines that hold a mark are read."""

    def __init__(self, folder: Path, *marks: bytes) -> None:
        self._folder = folder
        self._marks = marks
        self._searches = 5
        self._read: dict[Path, int] = {}

    def look(self, pattern: str) -> Iterator[Told]:
        """Yield what is new in the files that match, which are searched for until found. Blocks."""
        if not self._read and self._searches:
            self._searches -= 1  # there may be none, and many others
            with suppress(OSError):
                self._read = dict.fromkeys(self._folder.glob(pattern), 0)
        for file in self._read:
            for line in self._new_lines(file):
                with suppress(ValueError, RecursionError):
                    told = parse(line.decode(errors="replace"))
                    if isinstance(told, dict):
                        yield told

    def _new_lines(self, file: Path) -> Iterator[bytes]:
        try:
            if not file.is_file():
                return
            with file.open("rb") as stream:
                stream.seek(self._read[file])
                part = stream.read(_MOST_AT_ONCE)
        except OSError:
            return
        if len(part) < _MOST_AT_ONCE or b"\n" in part:  # else a line without an end
            part = part[: part.rfind(b"\n") + 1]
        self._read[file] += len(part)
        yield from (line for line in part.splitlines() if any(m in line for m in self._marks))
