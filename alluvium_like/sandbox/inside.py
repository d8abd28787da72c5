"""The first program in a box: limits itself, opens the doors to the proxy, becomes the agent.

It is run as a file, with nothing but the standard library, by the interpreter of the daemon. What
it says goes to the descriptor `report`: one message when it is there, with the listening sockets,
and a second one where the program cannot be run; nothing more is open when that runs.
"""

import errno
import json
import os
import resource
import socket
import sys

READY = b"ready "
_LOOPBACK = "127.0.0.1"
_WAITING = 128
_CANNOT = 127


def main() -> None:
    """Do what the first argument says, as JSON, and run what the others are."""
    plan = json.loads(sys.argv[1])
    for name, value in plan["limits"].items():
        _limit(getattr(resource, name), value)
    report = socket.socket(fileno=plan["report"]) if plan["report"] >= 0 else None
    if report is not None:
        report.set_inheritable(False)
        doors = [door for port in plan["ports"] if (door := _listen(port)) is not None]
        opened = [door.getsockname()[1] for door in doors]
        words = json.dumps(opened).encode("ascii")
        socket.send_fds(report, [READY + words], [door.fileno() for door in doors])
    argv = sys.argv[2:]
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - this is what it is for
    except OSError as error:
        refusal = f"cannot start {argv[0]}: {os.strerror(error.errno or errno.ENOEXEC)}"
        if report is not None:
            report.send(refusal.encode(errors="backslashreplace"))
        sys.stderr.write(f"{refusal}\n")
        sys.exit(_CANNOT)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def _listen(port: int) -> "socket.socket | None":
    """Return a listening socket; None for a port that only the system's administrator may open."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.bind((_LOOPBACK, port))
    except PermissionError:
        return None
    door.listen(_WAITING)
    return door


if __name__ == "__main__":
    main()
