"""Paths of a worktree that never land: what was copied into it, and what its set-up made.

The agent's own git passes over them, the daemon does not commit them, and work that has them in any
of its commits is not taken. Paths are plain, relative to the tree.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.touched import touched_on_the_way
from alluvium_like.gitrepo.workshop import Workshop

_INSIDE: Final = ("", "/**")


def write_excludes(workshop: Workshop, private: Sequence[str]) -> None:
    """Let the workshop's own git ignore the paths; blocks. Raises OSError."""
    folder = workshop.git_dir / "info"
    folder.mkdir(exist_ok=True)
    (folder / "exclude").write_text("".join(f"/{path}\n" for path in private))


def but_for(private: Sequence[str]) -> list[str]:
    """Return pathspecs of all but the paths; nothing where there are none."""
    if not private:
        return []
    globs = [_glob(path) for path in private]
    return ["--", ".", *(f":(top,exclude,glob){each}{end}" for each in globs for end in _INSIDE)]


def _glob(path: str) -> str:
    """Return a pattern for one path, with a wildcard in it.

    A path as it is would not do: `git add` fails where .gitignore names the same one, as most do.
    """
    return re.sub(r"[A-Za-z0-9]", r"[\g<0>]", re.sub(r"([*?\[\\])", r"\\\1", path), count=1)


async def find_private(
    git: Git, store: Path, tips: Sequence[str], known: Sequence[str], private: Sequence[str]
) -> list[str]:
    """Return the private paths that a commit of `tips`, and none of `known`, holds or had.

    Raises GitFailed.
    """
    patterns = [f"/{path}" for path in private]
    return sorted(await touched_on_the_way(git, store, tips, known, patterns))
