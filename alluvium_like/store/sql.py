"""Named SQL from files: `-- name: X` starts a query, comments under it describe it."""

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def query(name: str) -> str:
    """Return the text of one named query. Raises KeyError."""
    return _queries()[name]


@cache
def _queries() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in ("audit.sql", "read.sql", "write.sql"):
        text = (resources.files(__package__) / "queries" / file).read_text(encoding="utf-8")
        parts = _NAME.split(text)
        found.update(zip(parts[1::2], (body.strip() for body in parts[2::2]), strict=True))
    return found


def load() -> None:
    """Read the files once; called in a thread before the first query."""
    _queries()
    migrations()


@cache
def migrations() -> tuple[tuple[int, str, str], ...]:
    """Return (version, name, SQL) of every migration, oldest first."""
    folder = resources.files(__package__) / "migrations"
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql"))
    return tuple(
        (int(name[:4]), name.removesuffix(".sql"), (folder / name).read_text(encoding="utf-8"))
        for name in files
    )


def statements(script: str) -> list[str]:
    """Split a migration into statements; a trigger's body stays whole."""
    import sqlite3  # the splitter of the command line shell knows what is complete

    found: list[str] = []
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            found.append(part.strip())
            part = ""
    return [s for s in found if s]
