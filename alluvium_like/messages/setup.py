"""Set-ups: why a worktree cannot be made ready."""

from collections.abc import Sequence
from typing import Final

TAKE_OUT: Final = "take it out of config.toml, or out of the repository with 'git rm --cached'"
"""What to do about a path that the repository tracks."""


def private_tracked(path: str) -> str:
    """Say that a path which must never land is in the repository."""
    return f"[setup] copies or keeps {path}, which the repository tracks"


def lfs_pointers(paths: Sequence[str]) -> str:
    """Say that files would be pointers, and how to work with these."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return (
        f"{paths[0]}{more} is kept by Git LFS and would be a pointer in a worktree: "
        "set [setup].lfs_pointers = true to let agents work with pointers"
    )


def command_failed(name: str, reason: str, last_line: str, log_file: str) -> str:
    """Say which command of a set-up failed, with the end of what it said."""
    said = last_line or "it says nothing"
    return f"[setup] '{name}' {reason}: {said}; all of it is in {log_file}"
