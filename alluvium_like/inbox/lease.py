"""Asking the kernel whether a file is open for writing, by taking a read lease for a moment.

Linux only, for files of the daemon's own user; everywhere else the answer is "not known to be".
A writer that comes while the lease is held waits for those microseconds and signals the holder.
The signal asked for is SIGURG, which nobody dies of; SIGIO, the default, kills.
"""

import errno
import os
import signal
import sys

from alluvium_like.durable import StrPath

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OUT_OF_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

if sys.platform == "linux":
    import fcntl

    def has_open_writer(path: StrPath, folder: int | None = None) -> bool:
        """Tell whether some process is known to have this regular file open for writing.

        `path` may be relative to an open folder. Raises OSError when the daemon has no means left
        to ask (descriptors, memory).
        """
        try:
            fd = os.open(path, _FILE, dir_fd=folder)
        except BlockingIOError:
            return True  # a file server holds a write lease for one of its clients
        except OSError as error:
            if error.errno in _OUT_OF_MEANS:
                raise
            return False
        try:
            return _refuses_read_lease(fd)
        finally:
            os.close(fd)

    def _refuses_read_lease(fd: int) -> bool:
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False

else:

    def has_open_writer(path: StrPath, folder: int | None = None) -> bool:
        """Tell nothing: this system cannot be asked."""
        return False


def ignore_lease_signals() -> None:
    """Survive SIGIO, which the kernel falls back to when it cannot queue the signal asked for.

    Call it once at start-up, on the main thread. A handler, not SIG_IGN: programs started by the
    daemon must not inherit it.
    """
    signal.signal(signal.SIGIO, lambda _number, _frame: None)
