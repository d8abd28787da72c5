"""One writer connection: explicit transactions, one at a time, rolled back whatever happens.

aiosqlite runs each call in its own thread; a cancelled caller would leave a transaction open, so
begin, body and end are held together by a lock and the end is shielded. `synchronous=FULL`: what
was acknowledged survives a power cut. WAL mode is asked for, fetched and compared. The file is
checked as a whole unless it is as it was when it was last closed in order.
Nothing is written while the file is not where it was opened: who took it away may put it back.
After an IO error a new connection is opened and checked before anything else: whether the last
commit lasted is not known, so whoever asked for it is told that it failed and looks again.
"""

import contextlib
import errno
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import anyio
import anyio.to_thread

from alluvium_like.clock import utc_now
from alluvium_like.errors import (
    PlaceLost,
    StoreDamaged,
    StoreError,
    StoreMoved,
    StoreUnavailable,
)
from alluvium_like.failpoint import step
from alluvium_like.place import Place
from alluvium_like.store.closing import note_closed, take_note
from alluvium_like.store.sql import load, migrations, query, statements

Params = Mapping[str, str | int | float | bytes | None]
_BUSY_MILLISECONDS = 5000
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REFUSED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_DOUBTFUL = _REFUSED | {sqlite3.SQLITE_IOERR}
_UNAVAILABLE = _DOUBTFUL | {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}


class Connection:
    """The daemon's connection to the store."""

    def __init__(self, db: aiosqlite.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._place: Place | None = None
        self._lock = anyio.Lock(fast_acquire=True)
        self._sound = False
        self._doubtful = False

    @classmethod
    async def open(cls, path: Path) -> "Connection":
        """Open, check and migrate the store. Raises StoreError with what to do."""
        await anyio.to_thread.run_sync(load)
        try:
            untouched = await anyio.to_thread.run_sync(take_note, path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from error
        connection = cls(await _connect(path, check=not untouched), path)
        try:
            await connection._migrate()
        except sqlite3.Error as error:
            await connection.close()
            raise _judged(path, "opened", error) from error
        except BaseException:
            await connection.close()
            raise
        connection._place = await anyio.to_thread.run_sync(Place.of, path)
        connection._sound = True
        return connection

    async def close(self) -> None:
        """Close; an unclosed connection would keep the interpreter from exiting."""
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(StoreError):
                await self._renew_if_doubtful()
            await self._db.close()
            if self._sound:  # without the note the next start checks the file, that is all
                with contextlib.suppress(OSError, StoreError):
                    await self._require_place()
                    await anyio.to_thread.run_sync(note_closed, self._path)

    async def fetch(self, name: str, params: Params | None = None) -> list[sqlite3.Row]:
        """Run one named reading query, never in the middle of somebody's transaction."""
        async with self._lock:
            await self._renew_if_doubtful()
            try:
                return list(await self._db.execute_fetchall(query(name), params or {}))
            except sqlite3.Error as error:
                raise self._noted("read", error) from error

    @asynccontextmanager
    async def transaction(self, name: str) -> AsyncIterator["Statements"]:
        """Hold the write lock for one transaction; committed at the end, else rolled back.

        `name` says what is stored then: the commit passes the step `store.<name>`.
        """
        async with self._lock:
            with anyio.CancelScope(shield=True):
                await self._require_place()
                await self._renew_if_doubtful()
                try:
                    await self._db.execute("BEGIN IMMEDIATE")
                    yield Statements(self._db)
                    await self._commit(name)
                except sqlite3.Error as error:
                    raise self._noted("written", error) from error
                finally:
                    await self._roll_back()

    async def _commit(self, name: str) -> None:
        try:
            with step(f"store.{name}"):
                await self._db.execute("COMMIT")
        except OSError as error:  # injected: SQLite has errors of its own
            raise sqlite3.OperationalError(str(error)) from error

    async def _roll_back(self) -> None:
        """End what is left of a transaction; a connection that cannot do that is given up."""
        try:
            if self._db.in_transaction:
                await self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._sound, self._doubtful = False, True

    async def _require_place(self) -> None:
        if self._place is not None:
            try:
                await anyio.to_thread.run_sync(self._place.require)
            except PlaceLost as error:
                raise StoreMoved(str(error)) from error

    def _noted(self, verb: str, error: sqlite3.Error) -> StoreError:
        self._sound = False
        self._doubtful = self._doubtful or _code(error) in _DOUBTFUL
        return _judged(self._path, verb, error)

    async def _renew_if_doubtful(self) -> None:
        """Replace a connection that met an IO error.

        A sync that is repeated on the same descriptor succeeds and proves nothing. The new one is
        open before the old one is closed: the last to be closed would sync what is in doubt.
        """
        if self._doubtful:
            await self._require_place()  # else a new and empty store would be made
            with anyio.CancelScope(shield=True):
                fresh = await _connect(self._path, check=True)
                old, self._db, self._doubtful = self._db, fresh, False
                with contextlib.suppress(sqlite3.Error):
                    await old.close()

    async def _migrate(self) -> None:
        await self._db.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY,"
            " name TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
        )
        rows = await self._db.execute_fetchall("SELECT version FROM schema_migrations")
        applied = {row[0] for row in rows}
        known = migrations()
        newest = known[-1][0]
        if applied and max(applied) > newest:
            raise StoreError(
                f"{self._path}: made by a newer version (schema {max(applied)}, this one knows "
                f"{newest}); upgrade alluvium-like, or restore a backup of that time"
            )
        for version, name, script in known:
            if version not in applied:
                await self._apply(version, name, script)

    async def _apply(self, version: int, name: str, script: str) -> None:
        async with self.transaction("migrated") as tx:
            for statement in statements(script):
                await tx.run_text(statement)
            await tx.run_text(
                "INSERT INTO schema_migrations VALUES (:version, :name, :now)",
                {"version": version, "name": name, "now": utc_now()},
            )


async def _connect(path: Path, *, check: bool) -> aiosqlite.Connection:
    """Open a connection that may be trusted; with `check` the whole file is read.

    Raises StoreError.
    """
    try:
        # Where it fails aiosqlite leaves a thread that may outlive the loop, and complains of that.
        await anyio.to_thread.run_sync(_open_and_close, path)
        db = await aiosqlite.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise _judged(path, "opened", error) from error
    try:
        await _prepare(db, path, check=check)
    except sqlite3.Error as error:
        await db.close()
        raise _judged(path, "opened", error) from error
    except BaseException:
        await db.close()
        raise
    return db


def _open_and_close(path: Path) -> None:
    sqlite3.connect(path).close()


async def _prepare(db: aiosqlite.Connection, path: Path, *, check: bool) -> None:
    db.row_factory = sqlite3.Row
    await db.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    mode = list(await db.execute_fetchall("PRAGMA journal_mode = wal"))
    if [tuple(row) for row in mode] != [("wal",)]:
        raise StoreError(
            f"{path}: the file system refuses SQLite's WAL mode; put the workspace on a local disk"
        )
    await db.execute("PRAGMA synchronous = FULL")
    await db.execute("PRAGMA foreign_keys = ON")
    if check:
        broken = [row[0] for row in await db.execute_fetchall("PRAGMA quick_check(1)")]
        if broken != ["ok"]:
            what = " ".join(broken[0].split())  # SQLite says it in several lines
            raise _damaged(path, f"the store is damaged ({what})")


def _judged(path: Path, verb: str, error: sqlite3.Error) -> StoreError:
    """Tell a store that is damaged, or cannot be used now, from a mistake of ours."""
    code = _code(error)
    if code in _DAMAGED:
        return _damaged(path, str(error))
    text = f"{path}: cannot be {verb}: {error}"
    if code in _REFUSED:
        text += "; put the workspace on a local disk that you may write to"
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{text}; try again", full=code == sqlite3.SQLITE_FULL)
    return StoreError(text)


def _damaged(path: Path, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path}: {what}; the file was left as it is: "
        "restore a backup into an empty folder, or put a good copy in its place"
    )


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; an injected error says what the system's would be."""
    if isinstance(error.__cause__, OSError):
        full = error.__cause__.errno == errno.ENOSPC
        return sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


class Statements:
    """What may be run inside a transaction."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db

    async def run(self, name: str, params: Params | None = None) -> list[sqlite3.Row]:
        """Run one named query and return its rows."""
        return await self.run_text(query(name), params)

    async def run_text(self, sql: str, params: Params | None = None) -> list[sqlite3.Row]:
        """Run SQL that the store itself has put together."""
        safe = {name: _storable(value) for name, value in (params or {}).items()}
        rows: Iterable[sqlite3.Row] = await self._db.execute_fetchall(sql, safe)
        return list(rows)


def _storable(value: str | int | float | bytes | None) -> str | int | float | bytes | None:
    """Escape what SQLite cannot hold: parts of file names that are not UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
