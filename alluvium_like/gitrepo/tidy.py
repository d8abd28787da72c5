"""Keeps a repository of ours quick: its loose objects and small packs become few packs.

Nothing is pruned, whether a ref leads to it or not: workshops borrow objects from here, and work
that nobody wants any more is small. Whoever reads meanwhile finds the new pack.
"""

from pathlib import Path

from anyio import to_thread

from alluvium_like.gitrepo.runner import Git

_FAN_OUTS = 256
_MANY_LOOSE = 2048
_MANY_PACKS = 20


async def tidy(git: Git, store: Path) -> bool:
    """Pack what has gathered, where it is much; returns whether it was. Raises GitFailed.

    `--geometric` takes up all loose objects and leaves large packs alone.
    """
    if not await to_thread.run_sync(_is_untidy, store):
        return False
    await git.run("repack", "--geometric=2", "-d", "-l", "-n", "--quiet", git_dir=store)
    return True


def _is_untidy(store: Path) -> bool:
    """Judge the loose objects by one of their 256 folders, as git's own `gc --auto` does."""
    sample = sum(1 for _ in store.glob("objects/17/*"))
    packs = sum(1 for _ in store.glob("objects/pack/*.pack"))
    return sample * _FAN_OUTS >= _MANY_LOOSE or packs >= _MANY_PACKS
