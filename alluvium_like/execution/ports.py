"""Ranges of ports for what runs at the same time: each is given to one run, and taken back.

No two runs of one daemon share a port. A range in which somebody else listens is passed over; who
comes later is not kept out, so daemons of one machine begin at different places.
"""

import socket
import sys
import zlib
from itertools import chain

_LOOPBACK = "127.0.0.1"


class Ports:
    """The ranges that are given out; to be used from the event loop."""

    def __init__(self) -> None:
        self._taken: dict[str, range] = {}
        self._next: int | None = None

    def take(self, key: str, first: int, last: int, size: int, *, seed: str = "") -> int | None:
        """Give `key` a range of `size` ports from `first` to `last`; return its first port.

        None where every range is taken. The one given back last is given out again last, so that
        who still talks to an old run finds nobody; where the first one lies, `seed` decides.
        """
        self.give_back(key)
        bases = range(first, last - size + 2, size)
        if self._next is None:
            self._next = bases[zlib.crc32(seed.encode()) % len(bases)]
        later = [base for base in bases if base >= self._next]
        for base in chain(later, bases[: len(bases) - len(later)]):
            wanted = range(base, base + size)
            if not any(_overlap(wanted, taken) for taken in self._taken.values()) and all(
                map(_is_free, wanted)
            ):
                self._taken[key] = wanted
                self._next = wanted.stop
                return base
        return None

    def give_back(self, key: str) -> None:
        """Take back what `key` has, if anything; nothing of its run is left."""
        self._taken.pop(key, None)


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform == "linux":  # elsewhere this would share the port with who listens
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True
