"""Telling a supervisor how the daemon is: systemd's notify protocol, and our own `start`.

Both are a datagram to the socket named in NOTIFY_SOCKET; without one nothing is sent.
"""

import os
import socket


def notify(state: str) -> None:
    """Send one message such as READY=1; errors do not matter to the daemon."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        try:
            link.connect(address)
            link.send(state.encode())
        except OSError:
            return


def watchdog_seconds() -> float | None:
    """Return how often systemd wants to hear of us at least, None when it does not."""
    text = os.environ.get("WATCHDOG_USEC", "")
    wanted_by = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not text.isdigit() or wanted_by != str(os.getpid()):
        return None
    return int(text) / 1_000_000
