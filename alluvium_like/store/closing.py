"""The note that the store was closed in order, so that the next start need not read all of it.

The note names the file as it was then (inode, size, times). Whatever has touched the file since, a
crash, a restored backup, another program, makes it void, and so does a journal that was not taken
up: then the whole file is checked. It is gone while the store is open. All functions block.
"""

from pathlib import Path

_SUFFIX = "-closed"
_JOURNAL_SUFFIX = "-wal"


def note_closed(store: Path) -> None:
    """Leave the note; nothing is noted while somebody else's reading keeps the journal in use."""
    if _has_journal(store):
        return
    _note(store).write_bytes(_facts(store))


def take_note(store: Path) -> bool:
    """Remove the note; return true when there was one and nothing has touched the store since."""
    try:
        noted = _note(store).read_bytes()
    except FileNotFoundError:
        return False
    _note(store).unlink()
    return store.exists() and noted == _facts(store) and not _has_journal(store)


def _note(store: Path) -> Path:
    return store.with_name(store.name + _SUFFIX)


def _has_journal(store: Path) -> bool:
    journal = store.with_name(store.name + _JOURNAL_SUFFIX)
    return journal.exists() and journal.stat().st_size > 0


def _facts(store: Path) -> bytes:
    facts = store.stat()
    noted = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return " ".join(map(str, noted)).encode()
