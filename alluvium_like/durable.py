"""What makes a change of the file system last: fsync, and renames that never overwrite.

A rename is only durable when the folders on both sides were synced after it. All functions block;
call them from a thread where the loop must go on.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path

from alluvium_like.failpoint import step

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCL = 4  # macOS renamex_np

StrPath = str | os.PathLike[str]


def fsync_dir(folder: StrPath) -> None:
    """Make the entries of `folder` durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(folder: StrPath) -> bool:
    """Make everything durable that was changed on the file system of `folder`.

    Returns false where the system has no such call. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or not hasattr(libc, "syncfs"):
        return False
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(folder))
    finally:
        os.close(fd)
    return True


def rename_noreplace(source: StrPath, target: StrPath) -> None:
    """Rename without ever overwriting. Raises FileExistsError when `target` exists, else OSError.

    Where the system has no such call the check and the rename are two steps; targets are names
    that the daemon has just made up, so nobody else can be creating them.
    """
    code = _native_rename(os.fsencode(source), os.fsencode(target))
    if code == 0:
        return
    if code in (errno.ENOSYS, errno.EINVAL):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
        Path(source).rename(target)
        return
    raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))


def write_durable(path: Path, data: bytes) -> None:
    """Publish a file so that it is there whole or not at all, even after a power cut."""
    part = path.with_name(f".{path.name}.tmp")
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        with step("write.sync"):
            os.fsync(stream.fileno())
    with step("write.rename"):
        part.replace(path)
    with step("write.sync_folder"):
        fsync_dir(path.parent)


def _native_rename(source: bytes, target: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        failed = libc.renamex_np(source, target, _RENAME_EXCL)
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE)
    else:
        return errno.ENOSYS
    return ctypes.get_errno() if failed else 0
