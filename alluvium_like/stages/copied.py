"""The owner's files that are copied into worktrees, and the secrets in them.

What is copied comes from the owner's folder, and only a real folder of the tree is written to: a
link that an agent committed leads nowhere. What the owner's links lead to is copied in their place:
through a link an agent would write into the owner's own files. All functions block.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from alluvium_like.config.setup import Setup
from alluvium_like.errors import SetupFailed
from alluvium_like.gitrepo.workshop import is_real_folder
from alluvium_like.masking import remember

_LARGEST = 1_000_000
_ASSIGNED = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)(?:[ \t]*=(?!=)|[ \t]*:(?=[ \t]))[ \t]*
    (?:"((?:[^"\\]|\\.)*)" | '([^']*)' | ([^\n\#]*?(?:\S\#[^\n]*)?))[ \t]*(?:\#.*)?$""",
    re.MULTILINE | re.VERBOSE,
)
_PLAIN_WORD = re.compile(r"[a-z]{1,16}")
_OF_SECRETS = re.compile(r"key|token|secret|pass", re.IGNORECASE)


def remember_copied(setup: Setup, owner: Path) -> None:
    """Mask from now on what the files say that are copied; those that are missing say nothing."""
    for name in setup.copy_:
        for path in _files(owner / name):
            remember(_values(path))


def missing_of(setup: Setup, owner: Path) -> list[str]:
    """Return what is to be copied and is not there."""
    return [name for name in setup.copy_ if not (owner / name).exists()]


def place_for(tree: Path, name: str) -> Path:
    """Make the folders around a path of a fresh tree and return it; raises SetupFailed or OSError.

    Where something stands already, or a link leads away, nothing is written.
    """
    folder = tree
    *around, last = PurePosixPath(name).parts
    for part in around:
        folder = folder / part
        if not os.path.lexists(folder):
            folder.mkdir()
        if not is_real_folder(folder):
            raise SetupFailed(f"[setup] names {name}, but {folder.relative_to(tree)} is no folder")
    if os.path.lexists(folder / last):
        raise SetupFailed(f"[setup] names {name}, which is in the worktree already")
    return folder / last


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        seen: set[str] = set()
        for at, folders, names in os.walk(path, followlinks=True):
            if (real := os.path.realpath(at)) in seen:
                folders.clear()  # a link that leads around
            seen.add(real)
            yield from (Path(at, name) for name in names)


def _values(path: Path) -> Iterable[str]:
    """Return what a file's lines assign: NAME=value, or NAME: value.

    Plain words such as `production` are no secrets, but where the name says so.
    """
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return []
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError:
        return []
    found = ((name, "".join(values)) for name, *values in _ASSIGNED.findall(text))
    return [
        value
        for name, value in found
        if _OF_SECRETS.search(name) or not _PLAIN_WORD.fullmatch(value)
    ]
