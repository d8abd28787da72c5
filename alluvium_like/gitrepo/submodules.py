"""The owner's submodules in a fresh tree: filled as `git submodule update --init` would.

Only what the landed base says of a submodule counts, never the tree's own `.gitmodules`, which an
agent may have written. Objects come from where the owner's repository has them, else from the URL,
with the owner's own settings. Each becomes a repository of its own, detached; git's own command for
it, which reads far more, is not used.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alluvium_like.errors import GitFailed, SetupFailed
from alluvium_like.gitrepo.contents import GITLINK, links_of
from alluvium_like.gitrepo.landing import Owner
from alluvium_like.gitrepo.objects import diff_trees, trees_of
from alluvium_like.gitrepo.remote import masked, protocol_of, settings_of, surroundings
from alluvium_like.gitrepo.runner import Git, first_line, null_split
from alluvium_like.gitrepo.workshop import is_real_folder
from alluvium_like.log import get_logger
from alluvium_like.trouble import trouble_of

log = get_logger(__name__)

_DEEPEST = 8
_KEY = re.compile(r"submodule\.(.+)\.(path|url)", re.DOTALL)
_ANY = frozenset({0, 1, 128})
_RAW = ("-r", "-z", "--no-renames")


@dataclass(frozen=True, slots=True)
class _Around:
    """The repository that has the submodules: its files, git folder, URL and one for the owner."""

    tree: Path
    git_dir: Path
    url: str
    modules: Path
    title: str = ""


@dataclass(frozen=True, slots=True)
class _Named:
    """What `.gitmodules` says of one submodule."""

    name: str
    url: str


async def fill_submodules(
    git: Git, tree: Path, links: Mapping[str, str], store: Path, base: str, owner: Owner
) -> None:
    """Fill the submodules of a tree; `links` are their commits by path, `base` names them.

    Raises SetupFailed, in one line, where one cannot be filled.
    """
    done = await git.run(
        *("config", "--get", "remote.origin.url"),
        git_dir=owner.git_dir,
        owner=True,
        accept=frozenset({0, 1}),
    )
    url = first_line(done) or str(owner.path)
    if protocol_of(url) == "file" and not url.startswith("file://"):
        url = str(owner.path / url)
    around = _Around(tree, store, url, owner.git_dir / "modules")
    await _fill(git, owner, around, links, base, 0)


async def find_unknown(git: Git, store: Path, base: str, commit: str, owner: Owner) -> str:
    """Return what keeps the submodules of a commit from being filled elsewhere, or nothing.

    One that differs from the landed base's has to be in the owner's repository: what was committed
    inside a worktree goes with it. Raises GitFailed.
    """
    changes = await diff_trees(git, store, _RAW, *await trees_of(git, store, (base, commit)))
    parts = null_split(changes)
    facts = (
        (how.lstrip(":").split(), path) for how, path in zip(parts[::2], parts[1::2], strict=True)
    )
    links = {path: new for (_, mode, _, new, _), path in facts if mode == GITLINK}
    known = await _read_names(git, store, base) if links else {}
    for path, link in links.items():
        if path not in known:
            return (
                f"the agent committed {path}, a Git repository of its own: its files are not here"
            )
        if not await _has(git, owner.git_dir / "modules" / known[path].name, link):
            return (
                f"the agent moved submodule {path} to {link[:10]}, which your repository's copy of "
                f"it does not have: fetch it there, or let the agent leave {path} as it was"
            )
    return ""


async def _has(git: Git, mirror: Path, commit: str) -> bool:
    """Tell whether the owner has a commit of a submodule."""
    if not (mirror / "HEAD").is_file():
        return False
    done = await git.run("cat-file", "-e", f"{commit}^{{commit}}", git_dir=mirror, accept=_ANY)
    return done.code == 0


async def _fill(
    git: Git, owner: Owner, around: _Around, links: Mapping[str, str], base: str, depth: int
) -> None:
    known = await _read_names(git, around.git_dir, base)
    for path, commit in links.items():
        title = f"{around.title}{path}"
        named = known.get(path)
        if named is None:  # a repository that was once added by mistake, say: git has none for it
            log.warning("submodule_without_name", path=title)
            continue
        if depth == _DEEPEST:
            raise SetupFailed(f"submodule {title}: lies in too many others")
        target = around.tree / path
        if not is_real_folder(target):
            raise SetupFailed(f"submodule {title}: its folder cannot be used")
        url = _resolve(around.url, named.url)
        mirror = around.modules / named.name
        try:
            await _fill_one(git, owner, target, commit, mirror, url)
        except GitFailed as error:
            if trouble_of(error):
                raise
            why = masked(error.stderr.strip().splitlines()[0] if error.stderr.strip() else "", url)
            raise SetupFailed(
                f"submodule {title}: {commit[:10]} cannot be had from {masked(url, url)}: "
                f"{why or 'git gives no reason'}"
            ) from error
        except ValueError as error:
            raise SetupFailed(f"submodule {title}: {error}") from error
        inside = await links_of(git, target / ".git", target)
        if inside:
            below = _Around(target, target / ".git", url, mirror / "modules", f"{title}/")
            await _fill(git, owner, below, inside, commit, depth + 1)
        log.info("submodule_filled", path=title, commit=commit[:10])


async def _fill_one(
    git: Git, owner: Owner, target: Path, commit: str, mirror: Path, url: str
) -> None:
    """Make one repository at its commit. Raises GitFailed, or ValueError with the reason."""
    own = target / ".git"
    await git.run("init", "--quiet", "--template=", str(target), cwd=target)
    fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    if await _has(git, mirror, commit):
        await git.run(*fetch, "--", str(mirror), commit, git_dir=own)
    else:
        protocol = protocol_of(url)
        if not protocol:
            raise ValueError("its URL cannot be used: only ssh, https, http, git and paths are")
        around = surroundings(git.source, protocol, await settings_of(git, owner))
        await git.run(*fetch, "--", url, commit, git_dir=own, surroundings=around)
    await git.run("checkout", "--quiet", "--detach", commit, git_dir=own, work_tree=target)


async def _read_names(git: Git, git_dir: Path, commit: str) -> dict[str, _Named]:
    """Return what a commit's `.gitmodules` says, by path; odd names are left out."""
    found = await git.run(
        *("rev-parse", "--verify", "--quiet", f"{commit}:.gitmodules"),
        git_dir=git_dir,
        accept=_ANY,
    )
    if found.code:
        return {}
    done = await git.run(
        *("config", f"--blob={first_line(found)}", "--null", "--list"),
        git_dir=git_dir,
        accept=_ANY,
    )
    facts: dict[str, dict[str, str]] = {}
    for entry in null_split(done.stdout):
        key, _, value = entry.partition("\n")
        if matched := _KEY.fullmatch(key):
            facts.setdefault(matched[1], {})[matched[2]] = value
    return {
        each["path"]: _Named(name, each["url"])
        for name, each in facts.items()
        if {"path", "url"} <= each.keys() and _is_plain(name) and not each["url"].startswith("-")
    }


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _resolve(around: str, url: str) -> str:
    """Return the URL that a relative one means, seen from the repository around it."""
    if not url.startswith(("./", "../")):
        return url
    start, joint = around.rstrip("/"), "/"
    while True:
        if url.startswith("./"):
            url = url.removeprefix("./")
        elif url.startswith("../"):
            url = url.removeprefix("../")
            if "/" in start:
                start, joint = start.rpartition("/")[0], "/"
            else:
                start, joint = start.rpartition(":")[0], ":"
        else:
            return f"{start}{joint}{url}".rstrip("/")
