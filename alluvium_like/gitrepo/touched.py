"""Which paths between two trees match patterns, written like those of .gitignore."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from alluvium_like.gitrepo.objects import diff_trees, parse_commit, read_objects
from alluvium_like.gitrepo.runner import Git, null_split

_RAW = ("-r", "-z", "--no-renames")
_GITLINK = "160000"


async def touched(git: Git, store: Path, old: str, new: str, patterns: Sequence[str]) -> list[str]:
    """Return the paths that differ between two trees or commits and match. Raises GitFailed.

    What was moved counts at both places. A submodule is a folder: its own path matches as such.
    """
    specs = pathspecs(patterns)
    if not specs:
        return []
    trees = [await _tree(git, store, name) for name in (old, new)]
    found = null_split(await diff_trees(git, store, (*_RAW, "--name-only", "--", *specs), *trees))
    folders = [spec.removesuffix("/**") for spec in pathspecs(p for p in patterns if p[-1:] == "/")]
    if folders:
        parts = null_split(await diff_trees(git, store, (*_RAW, "--", *folders), *trees))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        found += [path for modes, path in pairs if _GITLINK in modes.lstrip(":").split()[:2]]
    return sorted(set(found))


async def _tree(git: Git, store: Path, name: str) -> str:
    (found,) = await read_objects(git, store, [name])
    if found is not None and found.kind == "commit":
        return parse_commit(found.data).tree
    return found.id if found is not None else name


def pathspecs(patterns: Iterable[str]) -> list[str]:
    """Translate patterns to pathspecs, case-insensitive.

    Without an inner slash a pattern counts at any depth, else from the root; with a slash at its
    end it is a folder; a folder stands for all in it.
    """
    found = []
    for pattern in patterns:
        name = pattern.strip("/")
        if not name:
            continue
        anchor = "" if "/" in pattern.rstrip("/") else "**/"
        if not pattern.endswith("/"):
            found.append(f":(glob,icase){anchor}{name}")
        found.append(f":(glob,icase){anchor}{name}/**")
    return found
