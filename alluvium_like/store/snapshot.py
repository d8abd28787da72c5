"""The store copied whole, as of one moment, while the daemon goes on writing.

SQLite's own backup call does it, from a connection of its own: a copy of the file would miss what
is in the journal, or tear a page. Blocks.
"""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from alluvium_like.errors import StoreError


def take_snapshot(store: Path, target: Path) -> None:
    """Copy the store to `target`, which must not exist.

    Raises StoreError, OSError where there is no room for the copy.
    """
    try:
        with (
            closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)  # all pages in one step: nobody's writes make it begin again
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        raise StoreError(
            f"{store}: cannot be copied: {error}; 'alluvium-like verify' says more"
        ) from error
