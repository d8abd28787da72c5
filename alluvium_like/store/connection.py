"""One writer connection: explicit transactions, one at a time, rolled back whatever happens.

aiosqlite runs each call in its own thread; a cancelled caller would leave a transaction open, so
begin, body and end are held together by a lock and the end is shielded. `synchronous=FULL`: what
was acknowledged survives a power cut. WAL mode is asked for, fetched and compared. The file is
checked as a whole unless it is as it was when it was last closed in order.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import anyio
import anyio.to_thread

from alluvium_like.clock import utc_now
from alluvium_like.errors import StoreError
from alluvium_like.store.closing import note_closed, take_note
from alluvium_like.store.sql import load, migrations, query, statements

Params = Mapping[str, str | int | float | bytes | None]
_BUSY_MILLISECONDS = 5000


class Connection:
    """The daemon's connection to the store."""

    def __init__(self, db: aiosqlite.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._lock = anyio.Lock(fast_acquire=True)
        self._sound = False

    @classmethod
    async def open(cls, path: Path) -> "Connection":
        """Open, check and migrate the store. Raises StoreError with what to do."""
        await anyio.to_thread.run_sync(load)
        try:
            untouched = await anyio.to_thread.run_sync(take_note, path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from error
        try:
            db = await aiosqlite.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from error
        connection = cls(db, path)
        try:
            await connection._prepare(check=not untouched)
        except sqlite3.DatabaseError as error:
            await connection.close()
            raise StoreError(
                f"{path}: {error}; the file was left as it is: "
                "move it away or restore a backup, then start again"
            ) from error
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Close; an unclosed connection would keep the interpreter from exiting."""
        with anyio.CancelScope(shield=True):
            await self._db.close()
            if self._sound:
                with contextlib.suppress(OSError):  # the next start checks the file, that is all
                    await anyio.to_thread.run_sync(note_closed, self._path)

    async def fetch(self, name: str, params: Params | None = None) -> list[sqlite3.Row]:
        """Run one named reading query, never in the middle of somebody's transaction."""
        async with self._lock:
            try:
                return list(await self._db.execute_fetchall(query(name), params or {}))
            except sqlite3.Error as error:
                self._sound = False
                raise StoreError(f"{self._path}: cannot be read: {error}") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Statements"]:
        """Hold the write lock for one transaction; committed at the end, else rolled back."""
        async with self._lock:
            with anyio.CancelScope(shield=True):
                try:
                    await self._db.execute("BEGIN IMMEDIATE")
                    yield Statements(self._db)
                    await self._db.execute("COMMIT")
                except sqlite3.Error as error:
                    self._sound = False
                    raise StoreError(f"{self._path}: cannot be written: {error}") from error
                finally:
                    if self._db.in_transaction:
                        await self._db.execute("ROLLBACK")

    async def _prepare(self, *, check: bool) -> None:
        db = self._db
        db.row_factory = sqlite3.Row
        await db.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        mode = list(await db.execute_fetchall("PRAGMA journal_mode = wal"))
        if [tuple(row) for row in mode] != [("wal",)]:
            raise StoreError(
                f"{self._path}: the file system refuses SQLite's WAL mode; "
                "put the workspace on a local disk"
            )
        await db.execute("PRAGMA synchronous = FULL")
        await db.execute("PRAGMA foreign_keys = ON")
        if check:
            broken = [row[0] for row in await db.execute_fetchall("PRAGMA quick_check(1)")]
            if broken != ["ok"]:
                what = " ".join(broken[0].split())  # SQLite says it in several lines
                raise sqlite3.DatabaseError(f"the store is damaged ({what})")
        await self._migrate()
        self._sound = True

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
        async with self.transaction() as tx:
            for statement in statements(script):
                await tx.run_text(statement)
            await tx.run_text(
                "INSERT INTO schema_migrations VALUES (:version, :name, :now)",
                {"version": version, "name": name, "now": utc_now()},
            )


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
