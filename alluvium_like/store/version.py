"""Whether the schema of a store is the one that this program's queries are made for."""

from pathlib import Path

from alluvium_like.errors import StoreError
from alluvium_like.store.sql import migrations


def require_version(path: Path, found: int, *, older: bool) -> None:
    """Refuse the schema of another program version, unless it is an `older` one that may be read.

    Raises StoreError.
    """
    known = migrations()[-1][0]
    made = f"{path}: made by a{{}} version (schema {found}, this one knows {known})"
    if found > known:
        raise StoreError(f"{made.format(' newer')}; upgrade alluvium-like")
    if found < known and not older:
        raise StoreError(f"{made.format('n older')}; start the daemon once to bring it up to date")
