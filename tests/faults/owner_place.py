"""An owner's repository, the daemon's, a commit that is to land, and all there is to be lost."""

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from alluvium_like.gitrepo.landing import LandingEnd, land
from alluvium_like.gitrepo.locate import locate_owner
from alluvium_like.gitrepo.runner import Git

LANDED = {"added", "changed", "folder/new", "link", "removed", "script"}
"""What the commit touches."""

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Owner",
    "GIT_AUTHOR_EMAIL": "owner@example.org",
    "GIT_COMMITTER_NAME": "Owner",
    "GIT_COMMITTER_EMAIL": "owner@example.org",
    "GIT_EDITOR": "true",
    "LC_ALL": "C",
}


def git(folder: Path, *args: str, code: int = 0, **more: str) -> str:
    """Run git as the owner would."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT | more,
    )
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return done.stdout.rstrip("\n")


def write(folder: Path, name: str, text: str) -> None:
    """Write a file as a person does, whatever was there."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(folder: Path, message: str = "owner's") -> str:
    """Commit all that is there."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@dataclass
class Seen:
    """All that the owner could lose."""

    files: dict[str, tuple[int, bytes]]
    index: dict[str, str]
    refs: dict[str, str]
    rest: dict[str, bytes]
    logs: dict[str, bytes]


class Place:
    """The three repositories under one folder; `tree` is where the owner works."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = root / "repo"
        self.git_dir = self.tree / ".git"
        self.integration = root / "integration.git"
        self.old = self.new = ""

    @classmethod
    def made(cls, root: Path) -> "Place":
        """Make the three, with two commits of the owner."""
        place = cls(root)
        place.tree.mkdir(parents=True)
        git(place.tree, "init", "-q", "-b", "main")
        commit(place.tree, "empty")
        for name in ("changed", "removed", "kept", "script", "sub/kept", "other/kept"):
            write(place.tree, name, f"{name}\n")
        commit(place.tree, "start")
        place.offer()
        return place

    def copy_to(self, root: Path) -> "Place":
        """Return an equal place of one's own."""
        shutil.copytree(self.root, root, symlinks=True)
        place = Place(root)
        place.old, place.new = self.old, self.new
        return place

    def offer(self, more: dict[str, str] | None = None) -> None:
        """Prove a commit on top of the owner's base; `more` are files in it besides."""
        shutil.rmtree(self.integration, ignore_errors=True)
        git(self.root, "clone", "-q", "--bare", str(self.git_dir), str(self.integration))
        self.old = git(self.tree, "rev-parse", "main")
        work = self.root / "work"
        git(self.root, "clone", "-q", str(self.integration), str(work))
        write(work, "changed", "new text\n")
        (work / "removed").unlink()
        (work / "script").chmod(0o755)
        for name, text in {"added": "added\n", "folder/new": "new\n", **(more or {})}.items():
            write(work, name, text)
        (work / "link").symlink_to("kept")
        self.new = commit(work, "work")
        git(work, "push", "-q", "origin", "HEAD:main")
        shutil.rmtree(work)

    async def land(self, *, cut_off: float | None = None, network: str = "") -> LandingEnd:
        owner = replace(await locate_owner(Git("test"), self.tree, "main"), network=network)
        return await land(Git("test"), owner, self.integration, self.old, self.new, cut_off=cut_off)

    def see(self, tree: Path | None = None) -> Seen:
        """Look at everything, without changing so much as a time."""
        tree = tree or self.tree
        bare = not (tree / ".git").exists()
        files = {} if bare else _files(tree, but=".git")
        index = {} if bare else _index(tree)
        told = git(self.git_dir, "for-each-ref", "--format=%(refname) %(objectname)")
        refs = dict(line.split(" ") for line in told.splitlines())
        admin = {name: data for name, (_, data) in _files(self.git_dir, but="objects").items()}
        logs = {name: data for name, data in admin.items() if "logs/" in name}
        rest = {
            name: data
            for name, data in admin.items()
            if name not in logs and not name.startswith(("refs/", "packed-refs", "modules/"))
            if name.rpartition("/")[2] not in ("index", "ORIG_HEAD", "gc.log")
            if "sharedindex." not in name
        }
        return Seen(files, index, refs, rest, logs)


def _files(folder: Path, but: str) -> dict[str, tuple[int, bytes]]:
    found = {}
    for here, below, names in os.walk(folder):
        if Path(here) == folder and but in below:
            below.remove(but)
        for name in [*names, *(name for name in below if Path(here, name).is_symlink())]:
            path = Path(here, name)
            data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = (path.lstat().st_mode, data)
    return found


def _index(tree: Path) -> dict[str, str]:
    """What is staged, with the flags that only the owner's index knows."""
    staged = git(tree, "--no-optional-locks", "ls-files", "-v", "--stage")
    return {
        f"{path}:{meta.split()[3]}": meta
        for meta, path in (x.split("\t") for x in staged.splitlines())
    }


def lost(before: Seen, after: Seen) -> list[str]:
    """Tell all that is other than it was."""
    return [
        f"{what} {name}: {old.get(name)!r} is now {new.get(name)!r}"
        for what in ("files", "index", "refs", "rest", "logs")
        for old, new in ((getattr(before, what), getattr(after, what)),)
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def lost_beside(before: Seen, after: Seen, new: str, paths: set[str]) -> list[str]:
    """Tell all that is other than it was, but for what lands: `paths`, and the base at `new`."""
    for seen in (before, after):
        for held in (seen.files, seen.index):
            for name in [name for name in held if name.partition(":")[0] in paths]:
                del held[name]
    before.refs["refs/heads/main"] = new
    for name in [name for name in after.logs if name.endswith(("logs/HEAD", "heads/main"))]:
        older, newer = before.logs.get(name, b""), after.logs.get(name, b"")
        if newer.startswith(older) and newer[len(older) :].count(b"\n") == 1:
            before.logs[name] = newer
    return lost(before, after)
