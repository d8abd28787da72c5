"""Which changed paths match patterns, written like those of .gitignore.

All changes are read and matched here: git's own pathspecs fold the case of ASCII only, and a
pattern that they misread would match nothing in silence. Where a pattern names what is inside a
folder, whatever stands in the place of that folder (a link, a file, a submodule) matches too.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from anyio import to_thread

from alluvium_like.gitrepo.objects import diff_trees
from alluvium_like.gitrepo.runner import Git, null_split

_RAW = ("-r", "-z", "--no-renames")
_LINKS = frozenset({"120000", "160000"})
"""Modes behind which another folder may stand."""
_ANY_FOLDERS = "**"
_PIECE = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


async def touched(
    git: Git, store: Path, old_tree: str, new_tree: str, patterns: Sequence[str]
) -> set[str]:
    """Return the paths that differ between two trees and match. Raises GitFailed.

    What was moved counts at both places.
    """
    if not patterns:
        return set()
    changes = await diff_trees(git, store, _RAW, old_tree, new_tree)
    return await to_thread.run_sync(_matching, changes, tuple(patterns))


async def touched_on_the_way(
    git: Git, store: Path, tips: Sequence[str], known: Sequence[str], patterns: Sequence[str]
) -> set[str]:
    """Return the matching paths that a commit of `tips`, and none of `known`, has changed.

    A merge changes what it has from none of its parents. Raises GitFailed.
    """
    if not patterns:
        return set()
    listed = await git.run(
        "rev-list", *tips, *(f"^{commit}" for commit in known), "--", git_dir=store
    )
    changes = await git.run(
        *("diff-tree", "--stdin", "--root", "--no-commit-id", "-c", *_RAW),
        git_dir=store,
        stdin=listed.stdout,
    )
    return await to_thread.run_sync(_matching, changes.stdout, tuple(patterns))


def _matching(changes: bytes, patterns: tuple[str, ...]) -> set[str]:
    """Return the paths of raw changes that match: `:modes ids status`, then the path."""
    entries, links = _compiled(patterns)
    parts = null_split(changes)
    return {
        path
        for how, path in zip(parts[::2], parts[1::2], strict=True)
        if (entries if _LINKS.isdisjoint(how.lstrip(":").split()) else links).fullmatch(_fold(path))
    }


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what is to be looked for in files, and in links."""
    files, links = (
        re.compile("|".join(_expression(p, of_links=of_links) for p in patterns), re.DOTALL)
        for of_links in (False, True)
    )
    return files, links


def _fold(text: str) -> str:
    """Return the one form of all spellings that differ in case or in how accents are put."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _expression(pattern: str, *, of_links: bool) -> str:
    """Translate one pattern, from its last part to its first.

    Without an inner slash it counts at any depth, else from the root. What it leads to stands for
    all that is in it, and so does a folder on the way for itself: `a(/b(/.*)?)?`.
    """
    parts = _fold(pattern).strip("/").split("/")
    if "/" not in pattern.rstrip("/"):
        parts.insert(0, _ANY_FOLDERS)
    if parts[-1] == _ANY_FOLDERS:
        parts.pop()
    found = ".*"
    for depth, part in reversed(list(enumerate(parts))):
        if part != _ANY_FOLDERS:
            found = f"{_name(part)}(?:/{found})?"
        elif of_links and depth:  # it may lead to a folder that holds what is looked for
            found = ".*"
        else:
            found = f"(?:[^/]+/)*{found}"
    return found


def _name(part: str) -> str:
    """Translate one part of a pattern, which never matches a slash."""
    return "".join(_piece(text) for text in _PIECE.findall(part))


def _piece(text: str) -> str:
    if text[0] == "*":
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if text[0] == "[" and len(text) > 1:
        return "(?!/)" + fnmatch.translate(text)[:-2]  # without the mark of the end
    return re.escape(text)
