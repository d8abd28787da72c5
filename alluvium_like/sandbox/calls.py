"""What no program in a box may ask the kernel for, because namespaces do not keep it apart.

Keys of the daemon's session, sockets of families that know no network of one's own (vsock reaches
the host of a virtual machine), words put into a terminal as if its person had typed them, a program
that others would run as the user of the daemon. Written as the kernel's filters are (seccomp, a
program of its packet filter); system calls of another architecture are not there.
"""

import errno
import platform
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from alluvium_like.execution.scratch import scratch_file

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000  # with the number of the error
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where these are in what a filter looks at
_WORD: Final = 8
_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)  # 16: netlink
_TYPING: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_CREATE: Final = 0o100
_X32: Final = 0x40000000


@dataclass(frozen=True, slots=True)
class _Machine:
    """The numbers of one architecture. `modes`: which argument is the mode of a file.

    `opens`: which one is the flags of an opening; the mode comes behind them.
    """

    audit: int
    keys: tuple[int, ...]
    socket: int
    ioctl: int
    modes: Mapping[int, int]
    opens: Mapping[int, int]
    absent: tuple[int, ...]
    limit: int = field(default=0)


_GENERIC: Final = {
    "keys": (217, 218, 219),  # add_key, request_key, keyctl
    "socket": 198,
    "ioctl": 29,
    "modes": {52: 1, 53: 2, 452: 2, 33: 2},  # fchmod, fchmodat, fchmodat2, mknodat
    "opens": {56: 2},  # openat
    "absent": (437, 425),  # openat2 and io_uring_setup: what they are told cannot be looked at
}
_MACHINES: Final = {
    "x86_64": _Machine(
        0xC000003E,
        keys=(248, 249, 250),
        socket=41,
        ioctl=16,
        modes={90: 1, 91: 1, 268: 2, 452: 2, 85: 1, 133: 1, 259: 2},  # chmod, creat, mknod, too
        opens={2: 1, 257: 2},
        absent=(437, 425),
        limit=_X32,
    ),
    "aarch64": _Machine(0xC00000B7, **_GENERIC),  # type: ignore[arg-type]
    "riscv64": _Machine(0xC00000F3, **_GENERIC),  # type: ignore[arg-type]
}


@contextmanager
def opened_filter() -> Iterator[int]:
    """Give a descriptor from which the filter is read, once; -1 where there is none."""
    program = filter_for(platform.machine())
    if not program:
        yield -1
        return
    with scratch_file(program) as opened:
        yield opened


def filter_for(machine: str) -> bytes:
    """Return the filter for a kind of machine; nothing for one that is not known."""
    found = _MACHINES.get(machine)
    return b"".join(_program(found)) if found else b""


def _program(machine: _Machine) -> Iterator[bytes]:
    yield _step(_LOAD, _ARCHITECTURE)
    yield _step(_EQUAL, machine.audit, 1, 0)
    yield _refuse(errno.ENOSYS)
    yield _step(_LOAD, _NUMBER)
    if machine.limit:
        yield from (_step(_AT_LEAST, machine.limit, 0, 1), _refuse(errno.ENOSYS))
    for number in machine.absent:
        yield from (_step(_EQUAL, number, 0, 1), _refuse(errno.ENOSYS))
    for number in machine.keys:
        yield from (_step(_EQUAL, number, 0, 1), _refuse(errno.EPERM))
    allowed = [_step(_EQUAL, family, len(_FAMILIES) - at, 0) for at, family in enumerate(_FAMILIES)]
    yield from _on(machine.socket, 0, [*allowed, _refuse(errno.EAFNOSUPPORT)])
    typed = [part for code in _TYPING for part in _refused_if(_EQUAL, code)]
    yield from _on(machine.ioctl, 1, typed)
    for number, place in machine.modes.items():
        yield from _on(number, place, _refused_if(_ANY_BIT, stat.S_ISUID))
    for number, place in machine.opens.items():
        mode = [_argument(place + 1), *_refused_if(_ANY_BIT, stat.S_ISUID)]
        yield from _on(number, place, [_step(_ANY_BIT, _CREATE, 0, len(mode)), *mode])
    yield _step(_RETURN, _ALLOW)


def _on(number: int, place: int, steps: list[bytes]) -> Iterator[bytes]:
    """Look at one argument of one system call; what the steps do not refuse is allowed."""
    yield _step(_EQUAL, number, 0, len(steps) + 2)
    yield from (_argument(place), *steps, _step(_RETURN, _ALLOW))


def _refused_if(test: int, value: int) -> list[bytes]:
    return [_step(test, value, 0, 1), _refuse(errno.EPERM)]


def _argument(place: int) -> bytes:
    """Load the lower half of an argument: all of these are smaller than that."""
    return _step(_LOAD, _ARGUMENTS + _WORD * place)


def _refuse(error: int) -> bytes:
    return _step(_RETURN, _REFUSE | error)


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
