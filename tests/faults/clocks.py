"""The clocks of a daemon, moved from outside while it runs (Linux, with a C compiler)."""

import mmap
import shutil
import struct
import subprocess
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bed import Bed

SOURCE = Path(__file__).with_name("clock_shim.c")
needs_shim = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="clocks are moved by a library that is compiled with cc, on Linux",
)


class Clocks:
    """The clocks of everything that `bed` starts; agents and gits have the real ones."""

    def __init__(self, bed: Bed, library: Path) -> None:
        path = bed.root.parent / "clocks"
        path.write_bytes(bytes(24))
        with path.open("r+b") as stream:
            self._page = mmap.mmap(stream.fileno(), 24)
        bed.environment.update(LD_PRELOAD=str(library), CLOCK_SHIM=str(path))

    def set_time_of_day(self, by: timedelta) -> None:
        """Let somebody set the clock."""
        self._move(by, timedelta(), timedelta())

    def suspend(self, how_long: timedelta) -> None:
        """Let the machine have slept: monotonic time stood still."""
        self._move(how_long, how_long, timedelta())

    def freeze(self, how_long: timedelta) -> None:
        """Let the processes have been frozen: all clocks ran on."""
        self._move(how_long, how_long, how_long)

    def _move(self, *by: timedelta) -> None:
        now: tuple[Any, ...] = struct.unpack("3q", self._page[:])
        moves = (move // timedelta(microseconds=1) * 1000 for move in by)
        moved = (old + move for old, move in zip(now, moves, strict=True))
        self._page[:] = struct.pack("3q", *moved)


@cache
def shim(folder: Path) -> Path:
    """Compile the library."""
    library = folder / "clock_shim.so"
    argv = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run([*argv, "-ldl"], check=True)
    return library
