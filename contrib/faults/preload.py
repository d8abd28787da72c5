"""The library of preload.c from Python: built where it is needed, told where to strike, read out.

Linux with a C compiler. The structures are those of preload.c, field by field.
"""

import ctypes
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alluvium_like.execution.table import read_row

SOURCE = Path(__file__).with_name("preload.c")
TREE, SELF, ERROR = range(3)
_RECORDS, _PROCESSES = 16384, 8192


class _Process(ctypes.Structure):
    _fields_ = (("pid", ctypes.c_int64), ("started", ctypes.c_uint64))


class _Record(ctypes.Structure):
    _fields_ = (
        ("point", ctypes.c_int64),
        ("pid", ctypes.c_int32),
        ("role", ctypes.c_char),
        ("call", ctypes.c_char * 19),
        ("program", ctypes.c_char * 24),
        ("path", ctypes.c_char * 200),
    )


class _Page(ctypes.Structure):
    _fields_ = (
        ("at", ctypes.c_int64),
        ("calls", ctypes.c_int64),
        ("mode", ctypes.c_int32),
        ("after", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("trace", ctypes.c_int32),
        ("count", ctypes.c_int64),
        ("struck", ctypes.c_int64),
        ("processes", ctypes.c_int32),
        ("execing", ctypes.c_int32),
        ("process", _Process * _PROCESSES),
        ("record", _Record * _RECORDS),
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One durable call; `role` is d, g, a or t: the daemon, its git, an attempt, a test."""

    point: int
    pid: int
    role: str
    program: str
    name: str
    path: str


class Page:
    """The page of one run: made before it, read after it."""

    def __init__(
        self,
        path: Path,
        *,
        at: int = 0,
        mode: int = TREE,
        after: bool = False,
        error: int = 0,
        calls: int = 1,
    ) -> None:
        self.path = path
        head = _Page(at=at, calls=calls, mode=mode, after=after, error=error, trace=not at)
        path.write_bytes(bytes(head)[: _Page.process.offset])
        os.truncate(path, ctypes.sizeof(_Page))

    def read(self) -> "Seen":
        """Return what the run left."""
        return Seen(_Page.from_buffer_copy(self.path.read_bytes()))


class Seen:
    """What a page says after a run."""

    def __init__(self, page: _Page) -> None:
        self._page = page
        self.count: int = page.count
        self.struck: int = page.struck

    def calls(self) -> Iterator[Call]:
        """Yield the recorded calls: all where nothing was to be struck, else those struck."""
        for record in self._page.record[1:]:
            if record.point:
                yield Call(
                    record.point,
                    record.pid,
                    *(
                        word.decode(errors="backslashreplace")
                        for word in (record.role, record.program, record.call, record.path)
                    ),
                )

    def outlive(self, seconds: float) -> list[int]:
        """Return the processes of the tree that are still alive after so many seconds.

        Those that are dead are reaped where they are this process's own to reap.
        """
        processes = [(p.pid, str(p.started)) for p in self._page.process[: self._page.processes]]
        deadline = time.monotonic() + seconds
        return [pid for pid, started in set(processes) if not _ends(pid, started, deadline)]


def build(folder: Path) -> Path:
    """Compile preload.c into `folder`; return the library. Raises SystemExit without compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("there is no C compiler (cc) to build preload.c with; install gcc")
    library = folder / "preload.so"
    argv = [compiler, "-O2", "-fPIC", "-shared", "-Wall", "-o", str(library), str(SOURCE)]
    subprocess.run([*argv, "-ldl", "-lpthread"], check=True)
    return library


def environment(library: Path, page: Page) -> dict[str, str]:
    """Return what a process needs in its environment for its tree to be counted."""
    return {"LD_PRELOAD": str(library), "KP_PAGE": str(page.path)}


def _ends(pid: int, started: str, deadline: float) -> bool:
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            row = read_row(pid)
            if row is None or row.started != started:
                return True
            left = max(0.0, deadline - time.monotonic())
            if not select.select([fd], [], [], left)[0]:
                return False
        finally:
            os.close(fd)
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return True
