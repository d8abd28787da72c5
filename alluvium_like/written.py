"""What the daemon itself writes into tasks' folders, remembered while somebody compares them.

`guarded` notes every write at its door: what the file was before, and what it is after. So a change
that nobody noted is somebody else's, also where the daemon wrote to the same file since. One lock
keeps a comparison from meeting a write that is not noted yet. In memory, for the whole process: it
says nothing about what an earlier daemon wrote.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple


class Print(NamedTuple):
    """What `stat` tells of a file; no program can set the time of its change back (ctime)."""

    inode: int
    mode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, facts: os.stat_result) -> "Print":
        """Return the fingerprint of what was looked at."""
        times = (facts.st_mtime_ns, facts.st_ctime_ns)
        return cls(facts.st_ino, facts.st_mode, facts.st_size, *times)

    def linked(self) -> "Print":
        """Return it for a file with several names: each that comes or goes changes its ctime."""
        return self._replace(changed=0)


class Written:
    """The writes of this process. They are kept for two looks: a task may be made during one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = False
        self._last: dict[Print, Print | None] = {}
        self._older: dict[Print, Print | None] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing be written, or nothing be compared, meanwhile."""
        with self._lock:
            yield

    def note(self, was: Print | None, now: Print) -> None:
        """Note what a file is after a write; `was` is None where it is new as it is.

        To be called while it is `held`.
        """
        if self._wanted:
            self._last[now] = was

    def want(self, *, wanted: bool) -> None:
        """Begin to remember, or forget all."""
        with self._lock:
            self._wanted = wanted
            self._last, self._older = {}, {}

    def looked(self) -> None:
        """Forget what the last look but one was told."""
        with self._lock:
            self._last, self._older = {}, self._last

    def explains(self, was: Print | None, now: Print, *, only_grown: bool = False) -> bool:
        """Tell whether a file became what it is by writes that were noted.

        `only_grown`: it has to be the same file still, to which nothing but we appended. To be
        called while it is `held`.
        """
        step: Print | None = now
        while step is not None and step != was:
            noted = self._last if step in self._last else self._older
            if step not in noted:
                return False
            step = noted[step]
        return step == was or not only_grown


WRITTEN: Final = Written()
