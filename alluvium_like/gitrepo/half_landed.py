"""What a landing that was cut off has left in the owner's files: taken up, or known not to be ours.

Nothing is touched unless every file that the landing touches is what it was, what it is to become
or a beginning of that, byte for byte, or is missing, which git makes good: anything else is the
owner's. A full disk cuts a landing off as a kill does.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio.to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.runner import Git, first_line, null_split

_PLAIN_FILES = ("100644", "100755")
_LINK = "120000"
_NO_FILES = {"160000", "000000"}
"""A submodule's commit, and nothing: git writes no file for them."""


async def take_up_written(
    git: Git, git_dir: Path, worktree: Path, old: str, new: str, cut_off: float | None
) -> bool:
    """Stage what was written of `new`, so that the next merge goes on from there.

    Not where something of it is staged. A file that is a mere beginning goes, if it was written
    since `cut_off`. Returns whether it helped.
    """
    with suppress(GitFailed):  # a lock, a filter that fails: the merge has told it better
        changes = await git.run(
            *("diff-tree", "-r", "-z", "--no-renames", old, new), git_dir=git_dir
        )
        metas, paths = null_split(changes.stdout)[::2], null_split(changes.stdout)[1::2]
        staged = await git.run(
            *("diff-index", "--cached", "-z", "--name-only", old), cwd=worktree, owner=True
        )
        if not set(null_split(staged.stdout)).isdisjoint(paths):
            return False
        top = Path(
            first_line(await git.run("rev-parse", "--show-toplevel", cwd=worktree, owner=True))
        )
        modes = await anyio.to_thread.run_sync(lambda: {p: _mode(top / p) for p in paths})
        found = await _content_ids(git, top, modes)
        written, begun = [], []
        for meta, path in zip(metas, paths, strict=True):
            old_mode, new_mode, *ids, _ = meta.removeprefix(":").split()
            before, after = ("" if not name.strip("0") else name for name in ids)
            if {old_mode, new_mode} <= _NO_FILES:
                continue
            if found[path] == after and (before != after or modes[path] == new_mode):
                written.append(f"{new_mode} {ids[1]}\t{path}\0")
            elif found[path] not in (before, ""):
                if not after or cut_off is None or modes[path] not in _PLAIN_FILES:
                    return False
                whole = await git.run("cat-file", "blob", after, git_dir=git_dir)
                if not await anyio.to_thread.run_sync(_is_begun, top / path, whole.stdout, cut_off):
                    return False
                begun.append(top / path)
        for file in begun:
            await anyio.to_thread.run_sync(file.unlink)
        if written:
            entries = "".join(written).encode(errors="surrogateescape")
            stage = ("update-index", "-z", "--index-info")
            await git.run(*stage, cwd=worktree, stdin=entries, owner=True)
        return bool(written or begun)
    return False


def _is_begun(file: Path, whole: bytes, since: float) -> bool:
    """Tell whether a file holds a beginning of `whole`, and was last written after `since`."""
    with file.open("rb") as stream:
        facts = os.fstat(stream.fileno())
        small = facts.st_size < len(whole) and min(facts.st_mtime, facts.st_ctime) >= since
        return small and whole.startswith(stream.read(len(whole)))


async def _content_ids(git: Git, worktree: Path, modes: Mapping[str, str]) -> dict[str, str]:
    """Return the object id of each file as the owner's Git would store it, empty for none."""
    found = dict.fromkeys(modes, "")
    regular = [p for p, mode in modes.items() if mode in _PLAIN_FILES and "\n" not in p]
    names = b"".join(os.fsencode(path) + b"\n" for path in regular)
    done = await git.run("hash-object", "--stdin-paths", cwd=worktree, stdin=names, owner=True)
    found |= dict(zip(regular, done.stdout.decode().split(), strict=True))
    for path in modes.keys() - set(regular):
        if modes[path] == _LINK:
            target = await anyio.to_thread.run_sync(os.readlink, os.fsencode(worktree / path))
            link = await git.run("hash-object", "--stdin", cwd=worktree, stdin=target, owner=True)
            found[path] = first_line(link)
        elif modes[path]:
            found[path] = "neither file nor link"
    return found


def _mode(path: Path) -> str:
    """Return the mode that Git would store, another one for what it would not, empty for none."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISREG(mode):
        return _PLAIN_FILES[bool(mode & stat.S_IXUSR)]
    return f"{stat.S_IFMT(mode):o}"
