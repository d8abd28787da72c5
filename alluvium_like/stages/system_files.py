"""The daemon's own files in tasks' folders as they are now, compared with what it wrote there.

Only `stat` is asked. While an attempt of the task runs, they are its own agent's to spoil; else the
daemon alone writes them, and notes that in `written`. All functions block.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from alluvium_like.trouble import trouble_of
from alluvium_like.workspace import EVENTS_NAME, TESTS_LOG_NAME
from alluvium_like.written import WRITTEN, Print

SystemFiles = Mapping[str, Print]
_HALF: Final = ".placing"
_ATTEMPTS: Final = "attempts"


def read_system(folder: Path) -> SystemFiles:
    """Return the fingerprints of what is in `tasks/<id>/.system`, by path. Raises OSError.

    Of a folder that is none of the daemon's own it is said only that it is there.
    """
    return dict(_read(os.fspath(folder), ""))


def changed_files(before: SystemFiles | None, now: SystemFiles) -> list[str]:
    """Return the files that somebody else has changed, made or removed; None: nothing was there.

    To be called while `WRITTEN` is held, as `read_system` before it.
    """
    known: SystemFiles = before or {}
    odd = [name for name in known if name not in now]
    for name, seen in now.items():
        was = known.get(name)
        grown = name == EVENTS_NAME and was is not None
        if seen != was and not WRITTEN.explains(was, seen, only_grown=grown):
            odd.append(name)
    return sorted(odd)


def _read(top: str, inside: str) -> Iterator[tuple[str, Print]]:
    for entry in _entries(f"{top}/{inside}".rstrip("/")):
        name = f"{inside}{entry.name}"
        if entry.name.startswith(".") and entry.name.endswith(_HALF):
            continue
        with suppress(FileNotFoundError):
            if entry.is_dir(follow_symlinks=False):
                if name == _ATTEMPTS or inside == f"{_ATTEMPTS}/":
                    yield from _read(top, f"{name}/")
                else:
                    yield name, Print(entry.inode(), 0, 0, 0, 0)
                continue
            seen = Print.of(entry.stat(follow_symlinks=False))
            yield name, seen.linked() if name == TESTS_LOG_NAME else seen


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):  # a link leads to the files of others
            return []
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        if trouble_of(error):
            raise
        return []
