"""What a fresh tree holds that asks for more than a checkout: submodules, LFS files, lock files.

To be asked before an agent was in the tree: its index is believed. Nothing is read where the index
holds no such thing.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import anyio.to_thread

from alluvium_like.gitrepo.runner import Git, null_split
from alluvium_like.gitrepo.workshop import Workshop

GITLINK: Final = "160000"
_GITLINK_BYTES = b"\0\0\xe0\0"
_ATTRIBUTES = b".gitattributes"
_LFS = ":(top,attr:filter=lfs)"


class _File(NamedTuple):
    """One entry of an index."""

    mode: str
    object_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a tree holds that asks for more: paths all.

    `submodules` come with their commits, `locks` with the ids of what they hold; `private` are
    those that are to stay out of the repository, and are in it.
    """

    submodules: dict[str, str]
    locks: tuple[tuple[str, str], ...]
    private: tuple[str, ...]
    lfs: tuple[str, ...]


async def look_into(
    git: Git, workshop: Workshop, lock_files: Sequence[str], private: Sequence[str]
) -> Contents:
    """Look at the tree of a fresh workshop. Raises GitFailed or OSError."""
    index = await anyio.to_thread.run_sync((workshop.admin / "index").read_bytes)
    files: list[_File] = []
    if lock_files or private or _GITLINK_BYTES in index:
        files = await _files(git, workshop.admin, workshop.tree)
    lfs: list[str] = []
    if _ATTRIBUTES in index:
        done = await git.run(
            *("ls-files", "-z", "--", _LFS), git_dir=workshop.admin, work_tree=workshop.tree
        )
        lfs = null_split(done.stdout)
    return Contents(
        _links(files),
        tuple((each.path, each.object_id) for each in files if _is_lock(each.path, lock_files)),
        tuple(each.path for each in files if _is_in(each.path, private)),
        tuple(lfs),
    )


async def links_of(git: Git, git_dir: Path, tree: Path) -> dict[str, str]:
    """Return the commits of the submodules of a fresh tree by path. Raises GitFailed."""
    return _links(await _files(git, git_dir, tree))


async def _files(git: Git, git_dir: Path, tree: Path) -> list[_File]:
    done = await git.run("ls-files", "--stage", "-z", git_dir=git_dir, work_tree=tree)
    files = []
    for entry in null_split(done.stdout):
        facts, _, path = entry.partition("\t")
        mode, object_id, _ = facts.split(" ")
        files.append(_File(mode, object_id, path))
    return files


def _links(files: Iterable[_File]) -> dict[str, str]:
    return {each.path: each.object_id for each in files if each.mode == GITLINK}


def _is_lock(path: str, lock_files: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, each) for each in lock_files)


def _is_in(path: str, folders: Sequence[str]) -> bool:
    parts = PurePosixPath(path)
    return any(parts.is_relative_to(folder) for folder in folders)
