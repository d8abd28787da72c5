"""What git's own fsck refuses of the files that git itself obeys, asked of what is about to land.

A fetch asks it of commits that come in, but not of what the daemon commits for an agent, nor of
objects that an attempt before has left in the repository already.
"""

from pathlib import Path

from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.objects import entries_at, read_header
from alluvium_like.gitrepo.runner import Git, first_line
from alluvium_like.gitrepo.touched import touched
from alluvium_like.trouble import trouble_of

_OBEYED = (".gitmodules", ".gitattributes")
_LARGEST_BYTES = 10_000_000


async def find_refused(git: Git, store: Path, old_tree: str, new_tree: str) -> str:
    """Return what git refuses of what `new_tree` has otherwise, or nothing. Raises GitFailed."""
    paths = await touched(git, store, old_tree, new_tree, _OBEYED)
    for path, facts in sorted((await entries_at(git, store, new_tree, sorted(paths))).items()):
        mode, kind, blob = facts.split()
        if kind != "blob":
            continue
        header = await read_header(git, store, blob)
        if header is not None and header.size > _LARGEST_BYTES:
            return f"{path} is larger than {_LARGEST_BYTES:_} bytes"
        why = await _refusal(git, store, f"{mode} blob {blob}\t{path.rpartition('/')[2]}\0", blob)
        if why:
            return f"git refuses {path}: {why}"
    return ""


async def _refusal(git: Git, store: Path, entry: str, blob: str) -> str:
    """Unpack a tree of this one entry: the name decides how the file is looked at."""
    data = entry.encode(errors="surrogateescape")
    tree = first_line(await git.run("mktree", "-z", git_dir=store, stdin=data))
    both = f"{tree}\n{blob}\n".encode("ascii")
    pack = await git.run("pack-objects", "--quiet", "--stdout", git_dir=store, stdin=both)
    try:
        await git.run("unpack-objects", "-q", "--strict", git_dir=store, stdin=pack.stdout)
    except GitFailed as error:
        if trouble_of(error):
            raise
        return refusal_of(error)
    return ""


def refusal_of(error: GitFailed) -> str:
    """Return the first reason that git's fsck gave."""
    return error.stderr.partition("error: ")[2].split("\n")[0] or str(error)
