"""The whole store looked at as of one moment, read-only, whether or not a daemon runs.

One read transaction from beginning to end: what is compared belongs together. Blocks.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from alluvium_like.errors import StoreError
from alluvium_like.store.rows import Row
from alluvium_like.store.sql import migrations, query

_MOST_DAMAGE = 20


class Inspection:
    """A read transaction on the store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._db.row_factory = sqlite3.Row

    def __enter__(self) -> Self:
        try:
            self._db.execute("BEGIN")
            (version,) = self._db.execute(query("schema_version")).fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise self._failed(error) from error
        newest = migrations()[-1][0]
        if version != newest:
            self._db.close()
            raise StoreError(
                f"{self._path}: has the schema of another version ({version}, this one knows "
                f"{newest}); " + ("start the daemon once" if version < newest else "upgrade")
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def damage(self) -> list[str]:
        """Return what SQLite itself finds wrong with the file and between its tables."""
        try:
            found = [row[0] for row in self._db.execute(f"PRAGMA integrity_check({_MOST_DAMAGE})")]
            orphans = self._db.execute("PRAGMA foreign_key_check").fetchmany(_MOST_DAMAGE)
        except sqlite3.Error as error:
            return [str(error)]
        text = [line for problem in found for line in str(problem).splitlines() if line != "ok"]
        return text[:_MOST_DAMAGE] + [
            f"a row of {row[0]} belongs to a row of {row[2]} that is not there" for row in orphans
        ]

    def rows(self, name: str, **params: str) -> Iterator[Row]:
        """Yield the rows of one named reading query. Raises StoreError."""
        try:
            yield from self._db.execute(query(name), params)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._path}: cannot be read: {error}")
