"""A process that everything is stolen from: it holds secrets, listens, and tells who came.

    python victim.py FOLDER

It stands for whatever else runs on a machine: a console, a cloud's metadata, an agent that holds
keys, a container's daemon. Who reached it through which door is a line of FOLDER/visits. It ends
with its standard input.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

DOORS: Final = {
    "console": "127.0.0.1",
    "proxied": "127.0.0.1",
    # These stand for addresses to which nothing of a test may leave.
    "metadata": "127.0.0.9",
    "outside": "127.0.0.77",
}
"""Servers on the machine's loopback."""
_SHM_MODE: Final = 0o1600  # IPC_CREAT, for its user alone
_SHM_BYTES: Final = 4096


def main(folder: Path) -> None:
    """Hold, listen, tell where, and wait for the end."""
    secrets: dict[str, str] = json.loads(sys.stdin.readline())
    os.chdir(folder)  # so the names of sockets are short enough
    visits = os.open("visits", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def came(door: str) -> None:
        os.write(visits, f"{door}\n".encode())

    held = ctypes.create_string_buffer(secrets["memory"].encode())
    deleted = os.memfd_create("held")
    os.write(deleted, secrets["descriptor"].encode())
    told: dict[str, object] = {"pid": os.getpid(), "address": ctypes.addressof(held), "fd": deleted}
    told["size"] = len(secrets["memory"])
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    shared = libc.shmget(os.getpid(), _SHM_BYTES, _SHM_MODE)
    ctypes.memmove(libc.shmat(shared, None, 0), secrets["shared"].encode(), len(secrets["shared"]))
    libc.shmctl(shared, 0, None)  # goes with this process; until then its key finds it no more
    told["shm"] = shared
    signal.signal(signal.SIGUSR1, lambda *_: came("signal"))
    for name, host in DOORS.items():
        told[name] = _listen(socket.create_server((host, 0)), name, came).getsockname()[1]
    for name in ("docker", "ssh-agent"):
        door = socket.socket(socket.AF_UNIX)
        door.bind(f"{name}.sock")
        door.listen()
        _listen(door, name, came)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0alluvium-victim-{os.getpid()}")
    abstract.listen()
    _listen(abstract, "abstract", came)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    told["udp"] = udp.getsockname()[1]

    def receive() -> None:
        udp.recv(100)
        came("udp")

    threading.Thread(target=receive, daemon=True).start()
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    while sys.stdin.readline():  # a signal may come meanwhile
        pass
    libc.shmctl(shared, 0, None)


def _listen(door: socket.socket, name: str, came: Callable[[str], None]) -> socket.socket:
    def serve() -> None:
        while True:
            link, _ = door.accept()
            with link, suppress(OSError):
                came(name)
                link.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n")

    threading.Thread(target=serve, daemon=True).start()
    return door


if __name__ == "__main__":
    main(Path(sys.argv[1]))
