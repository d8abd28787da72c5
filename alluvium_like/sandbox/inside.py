"""The first program in a box: limits itself, opens the doors to the proxy, becomes the agent.

It is run as a file by the interpreter of the daemon, once for every run, so it imports only what is
compiled in: `socket` and `json` alone would double what it costs. What it says goes to the
descriptor `report`: one message when it is there, with the listening sockets, and a second one
where the program cannot be run; nothing more is open when that runs.
"""

import _socket
import errno
import os
import resource
import sys

READY = b"ready"
_LOOPBACK = "127.0.0.1"
_WAITING = 128
_CANNOT = 127


def main(report: str, limits: str, ports: str, *argv: str) -> None:
    """Run `argv`. `limits`: "RLIMIT_NPROC=100 …"; `ports`: those to listen on; -1: no report."""
    for limit in limits.split():
        name, _, value = limit.partition("=")
        _limit(getattr(resource, name), int(value))
    channel = _socket.socket(fileno=int(report)) if int(report) >= 0 else None
    if channel is not None:
        os.set_inheritable(channel.fileno(), False)
        _tell_ready(channel, [_listen(int(port)) for port in ports.split()])
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - this is what it is for
    except OSError as error:
        refusal = f"cannot start {argv[0]}: {os.strerror(error.errno or errno.ENOEXEC)}"
        if channel is not None:
            channel.send(refusal.encode(errors="backslashreplace"))
        sys.stderr.write(f"{refusal}\n")
        sys.exit(_CANNOT)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def _listen(port: int) -> "_socket.socket | None":
    """Return a listening socket; None for a port that only the system's administrator may open."""
    door = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        door.bind((_LOOPBACK, port))
    except PermissionError:
        return None
    door.listen(_WAITING)
    return door


def _tell_ready(channel: _socket.socket, doors: "list[_socket.socket | None]") -> None:
    """Send the listening sockets, and their ports in the same order."""
    opened = [door for door in doors if door is not None]
    words = READY + b"".join(b" %d" % door.getsockname()[1] for door in opened)
    numbers = b"".join(door.fileno().to_bytes(4, sys.byteorder) for door in opened)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)] if opened else []
    channel.sendmsg([words], rights)


if __name__ == "__main__":
    main(*sys.argv[1:])
