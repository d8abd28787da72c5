"""Files in folders that an agent may write: nothing planted there leads the daemon elsewhere.

Every name is opened relative to its folder's own descriptor; links are not followed, pipes and
devices are not waited for, and what stands in the way is renamed aside, never deleted. All
functions block and raise OSError.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from alluvium_like.failpoint import step
from alluvium_like.trouble import trouble_of
from alluvium_like.written import WRITTEN, Print

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe without a writer, or a file under somebody's lease, must not hold the daemon up.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HALF = ".placing"
_GROWING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def own_path(trusted: Path, *names: str) -> Iterator[int]:
    """Open the real folders `names` one in the other below `trusted`, made where missing."""
    with ExitStack() as opened:
        folder = os.open(trusted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, folder)
        for name in names:
            folder = opened.enter_context(own_folder(folder, name))
        yield folder


def place(folder: int, name: str, text: str, *, mode: int = 0o644) -> None:
    """Place a file, whole or not at all."""
    with _half(folder, name) as part:
        with os.fdopen(os.open(part, _NEW_FILE, mode, dir_fd=folder), "wb") as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))
            made = os.fstat(stream.fileno()).st_ino
        with WRITTEN.held():
            with step("file.place"):
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            _note_whole(folder, name, made)


def link_into(folder: int, name: str, source: Path) -> None:
    """Place a second name of a file of ours; what it was before is replaced."""
    with _half(folder, name) as part:
        with step("file.link"):
            os.link(source, part, dst_dir_fd=folder, follow_symlinks=False)
        linked = os.stat(part, dir_fd=folder, follow_symlinks=False).st_ino
        with WRITTEN.held():
            with step("file.replace"):
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            _note_whole(folder, name, linked, is_link=True)
        if exists(folder, part):  # both were the same file: then a rename does nothing
            os.unlink(part, dir_fd=folder)


@contextmanager
def _half(folder: int, name: str) -> Iterator[str]:
    """Give a file that is made its name until it is whole; nothing is left where that fails."""
    part = f".{name}{_HALF}"
    _clear_way(folder, part, name)
    if exists(folder, part):
        os.unlink(part, dir_fd=folder)
    try:
        yield part
    except OSError:
        with suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise


def drop_halves(folder: int) -> None:
    """Delete what was being placed here when the daemon died."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(_HALF) and is_regular(folder, name):
            os.unlink(name, dir_fd=folder)


def append(folder: int, name: str, data: bytes) -> None:
    """Append to a file, made where it is missing."""
    _clear_way(folder, name)
    with WRITTEN.held():
        is_new = not exists(folder, name)
        # Unbuffered, so that what a full disk cut off is noted as it is.
        with os.fdopen(os.open(name, _GROWING, 0o644, dir_fd=folder), "wb", buffering=0) as stream:
            was = None if is_new else Print.of(os.fstat(stream.fileno()))
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[stream.write(rest) :]
            finally:
                WRITTEN.note(was, Print.of(os.fstat(stream.fileno())))


def _note_whole(folder: int, name: str, inode: int, *, is_link: bool = False) -> None:
    """Note a file that was placed, unless somebody was quick to put another in its place."""
    now = Print.of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    if now.inode == inode:
        WRITTEN.note(None, now.linked() if is_link else now)


def _clear_way(folder: int, *names: str) -> None:
    for planted in names:
        if exists(folder, planted) and not is_regular(folder, planted):
            rename_aside(folder, planted)


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Open a real folder."""
    descriptor = os.open(path, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def own_folder(parent: int, name: str) -> Iterator[int]:
    """Open the real, usable folder `name` below `parent`, making it where it is missing."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if trouble_of(error):
            raise  # it may well be real and usable
        if exists(parent, name):
            rename_aside(parent, name)
        os.mkdir(name, 0o755, dir_fd=parent)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(descriptor, mode | stat.S_IRWXU)
        yield descriptor
    finally:
        os.close(descriptor)


def read_regular(folder: int, name: str, limit: int) -> bytes | None:
    """Read at most `limit` bytes; None when `name` is something other than a file."""
    if not is_regular(folder, name):  # so that not even a device's open has an effect
        return None
    descriptor = os.open(name, _FILE, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return stream.read(limit)


def is_regular(folder: int, name: str) -> bool:
    """Tell whether `name` is a plain file."""
    return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def exists(folder: int, name: str) -> bool:
    """Tell whether there is anything called `name`."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def free_name(folder: int, name: str) -> str:
    """Return `name`, or the first numbered form of it that is not taken."""
    number, free = 0, name
    while exists(folder, free):
        number += 1
        free = f"{name}.{number}"
    return free


def rename_aside(folder: int, name: str) -> None:
    """Get `name` out of the way."""
    with step("file.set_aside"):
        os.rename(name, free_name(folder, f"{name}.aside"), src_dir_fd=folder, dst_dir_fd=folder)
