"""What a fresh tree holds that asks for more than a checkout: submodules, LFS files, lock files.

To be asked before an agent was in the tree: its index is believed. Nothing is read where the index
holds no such thing.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import anyio.to_thread

from alluvium_like.gitrepo.runner import Git, null_split
from alluvium_like.gitrepo.workshop import Workshop

GITLINK: Final = "160000"
_GITLINK_BYTES = b"\0\0\xe0\0"
_ATTRIBUTES = b".gitattributes"
_LFS = ":(top,attr:filter=lfs)"


@dataclass(frozen=True, slots=True)
class Contents:
    """`submodules` are the commits by path, `locks` names and ids of the lock files."""

    submodules: dict[str, str]
    locks: tuple[tuple[str, str], ...]
    private: tuple[str, ...]
    """Paths that are to stay out of the repository, and are in it."""
    lfs: tuple[str, ...]


async def look_into(
    git: Git, workshop: Workshop, lock_files: Sequence[str], private: Sequence[str]
) -> Contents:
    """Look at the tree of a fresh workshop. Raises GitFailed or OSError."""
    index = await anyio.to_thread.run_sync((workshop.admin / "index").read_bytes)
    files: list[tuple[str, str, str]] = []
    if lock_files or private or _GITLINK_BYTES in index:
        done = await git.run(
            *("ls-files", "--stage", "-z"), git_dir=workshop.admin, work_tree=workshop.tree
        )
        files = list(_files(done.stdout))
    lfs: list[str] = []
    if _ATTRIBUTES in index:
        done = await git.run(
            *("ls-files", "-z", "--", _LFS), git_dir=workshop.admin, work_tree=workshop.tree
        )
        lfs = null_split(done.stdout)
    return Contents(
        {path: found for mode, found, path in files if mode == GITLINK},
        tuple((path, found) for _, found, path in files if _is_lock(path, lock_files)),
        tuple(path for _, _, path in files if _is_in(path, private)),
        tuple(lfs),
    )


async def links_of(git: Git, git_dir: Path, tree: Path) -> dict[str, str]:
    """Return the commits of the submodules of a fresh tree by path. Raises GitFailed."""
    done = await git.run("ls-files", "--stage", "-z", git_dir=git_dir, work_tree=tree)
    return {path: found for mode, found, path in _files(done.stdout) if mode == GITLINK}


def _files(listed: bytes) -> Iterator[tuple[str, str, str]]:
    for entry in null_split(listed):
        facts, _, path = entry.partition("\t")
        mode, found, _ = facts.split(" ")
        yield mode, found, path


def _is_lock(path: str, lock_files: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, each) for each in lock_files)


def _is_in(path: str, folders: Sequence[str]) -> bool:
    parts = PurePosixPath(path)
    return any(parts.is_relative_to(folder) for folder in folders)
