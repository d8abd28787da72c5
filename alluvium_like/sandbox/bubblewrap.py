"""A box made by bubblewrap: the command line that makes it, and whether it can be made here.

Another backend (sandbox-exec on macOS, say) is a module with the same functions: `enclosed`,
`around` and `find_problem`.

In every box: namespaces of its own for users, processes, the rest of IPC and the host's name; no
capability, and no way to a further namespace of users; it ends with the process that started it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from alluvium_like.failpoint import step
from alluvium_like.sandbox import inside
from alluvium_like.sandbox.box import Access, Box, Limits, Mount, system_mounts
from alluvium_like.sandbox.calls import opened_filter
from alluvium_like.sandbox.programs import PYTHON, own_mounts

PROGRAM: Final = "bwrap"
INSTALL: Final = "install bubblewrap (the program bwrap) with the system's package manager"
_TMP: Final = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108 - private ones
_OF_THE_KERNEL: Final = (
    *("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr", "driver", "asound"),
    *("dynamic_debug", "latency_stats"),
)
"""What of /proc is the whole machine's. bubblewrap covers it for ordinary users only: it asks if
the folder can be written, and root may write what is in it, such as sys/kernel/core_pattern."""
_RESOLVER: Final = Path("/etc/resolv.conf")
_NAMESPACES: Final = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--disable-userns", "--die-with-parent", "--cap-drop", "ALL"),
)
_PROBE_SECONDS: Final = 20.0


def enclosed(
    box: Box, argv: Sequence[str], cwd: Path, report: int, ports: Sequence[int], calls: int = -1
) -> list[str]:
    """Return the command line that runs `argv` in a box.

    `report`: the descriptor on which the helper in the box tells that it is there, with a listening
    socket for each of the `ports` of the box's own loopback, and what it could not run. `calls`:
    the one from which bubblewrap reads which system calls are refused.
    """
    return [
        *around(box, cwd, calls),
        *(os.fspath(PYTHON), "-I", "-S", "-B", inside.__file__),
        *(str(report), _resource_limits(box.limits), " ".join(map(str, ports))),
        *argv,
    ]


def around(box: Box, cwd: Path, calls: int = -1) -> list[str]:
    """Return the command line that runs what is put behind it in a box, without its limits."""
    return [
        *_outside(box),
        *_NAMESPACES,
        *(["--unshare-net"] if box.network in ("loopback", "allow") else []),
        *(["--seccomp", str(calls)] if calls >= 0 else []),
        *_places(box),
        *("--chdir", os.fspath(cwd), "--"),
    ]


def find_problem() -> str:
    """Return why no box can be made here, empty where one can. Blocks for some 30 ms."""
    if sys.platform != "linux":
        return "there is no bubblewrap on this system, and nothing else is supported yet"
    if shutil.which(PROGRAM) is None:
        return f"bubblewrap is not there: {INSTALL}"
    box = Box((*system_mounts(), *own_mounts()), network="loopback")
    try:
        with step("box.probe"), opened_filter() as calls:
            done = subprocess.run(
                enclosed(box, ["true"], Path(os.sep), -1, (), calls),
                pass_fds=[calls] if calls >= 0 else [],
                capture_output=True,
                text=True,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                timeout=_PROBE_SECONDS,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here: {error}"
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        return f"bubblewrap does not work here: {words[-1]}"
    return ""


def _outside(box: Box) -> list[str]:
    """Return the program, in a network without even a loopback where the box is to have none."""
    program = shutil.which(PROGRAM) or PROGRAM
    if box.network != "none":
        return [program]
    apart = shutil.which("unshare") or "unshare"
    return [apart, "--user", "--map-current-user", "--net", "--", program]


def _places(box: Box) -> Iterator[str]:
    yield from ("--dev", "/dev", "--proc", "/proc")
    for name in _OF_THE_KERNEL:  # the owner of these files needs no capability to write them
        if (Path("/proc") / name).exists():
            yield from ("--ro-bind", f"/proc/{name}", f"/proc/{name}")
    shut = ["/", "/dev"]  # which lie in memory, and would hold whatever is put there
    more = [Mount.of(path, Access.EMPTY) for path in _TMP]
    if box.network == "full" and _RESOLVER.exists():  # often a link to where no box looks
        more.append(Mount.of(_RESOLVER.resolve()))
    for mount in box.with_mounts(more).ordered:
        place, source = os.fspath(mount.place), os.fspath(mount.source)
        match mount.access:
            case Access.READ:
                yield from ("--ro-bind", source, place)
            case Access.WRITE:
                yield from ("--bind", source, place)
            case Access.LINK:
                yield from ("--symlink", source, place)
            case Access.EMPTY:
                if box.limits.scratch_bytes:
                    yield from ("--size", str(box.limits.scratch_bytes))
                yield from ("--tmpfs", place)
            case Access.HIDDEN if mount.place.is_dir():
                yield from ("--tmpfs", place)
                shut.append(place)
            case Access.HIDDEN if mount.place.exists():  # it cannot be covered once it is gone
                yield from ("--ro-bind", os.devnull, place)
    for place in shut:
        yield from ("--remount-ro", place)


def _resource_limits(limits: Limits) -> str:
    """Return the limits that the system keeps for each process, as the helper reads them.

    RLIMIT_AS would break programs that reserve far more than they use, as Node does; RLIMIT_DATA
    counts what can be written.
    """
    wanted = {
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_DATA": limits.memory_bytes,
        "RLIMIT_CPU": limits.cpu_seconds,
        "RLIMIT_FSIZE": limits.file_bytes,
    }
    kept = {name: value for name, value in wanted.items() if value} | {"RLIMIT_CORE": 0}
    return " ".join(f"{name}={value}" for name, value in kept.items())
