"""Bytes for and from a child in a file without a name: no pipe that fills up or is held open.

In memory on Linux, so reading and writing it never waits for a disk.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK_BYTES = 1 << 28


@contextmanager
def scratch_file(data: bytes = b"") -> Iterator[int]:
    """Yield a descriptor of a nameless file that holds `data`, positioned at its start."""
    fd = _open()
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(fd, data[written : written + _CHUNK_BYTES], written)
        yield fd
    finally:
        os.close(fd)


def content_of(fd: int) -> bytes:
    """Return all that a scratch file holds."""
    chunks: list[bytes] = []
    offset = 0
    while chunk := os.pread(fd, min(os.fstat(fd).st_size - offset, _CHUNK_BYTES), offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def _open() -> int:
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    return os.memfd_create("alluvium")
