"""Items that nobody should drop: recipes that Hypothesis puts together, made of real files.

A recipe is data, so that a failing one can be read; `make` lays it down, and `picture` takes down
all that moving an item must not change: bytes, rights, owner, times, links, inodes.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from hypothesis import strategies as st

TERA: Final = 1 << 40
NAMES: Final = (
    *(b"note.md", b"NOTE.MD", b"input", b".agent", b".system", b"reason.txt", b"prompt.md"),
    *(b"why-in-quarantine.txt", b"-rf", b"--help", b"..foo", b"download.part", b"a.tmp"),
    *(b"two\nlines", b"\x1b]0;owned\x07\x1b[31mred", b"c1\xc2\x9b31m", "bidi\u202egpj".encode()),
    *(b"raw\xff\xfe", b"\xff" * 255, b"n" * 255, "\N{PILE OF POO}".encode() * 63, b" ", b"~", b"*"),
    *(b"$(touch owned)", b"`id`", b"%s%n", b"..%2f", b"\\", b"con", b"\xed\xa0\x80", b"\xc3\xa9"),
)
_FOLDER_MODES: Final = (0o755, 0o755, 0o700, 0o2775, 0o1777, 0o555, 0o500, 0o300, 0o600, 0o400, 0)
_FILE_MODES: Final = (0o644, 0o644, 0o600, 0o400, 0, 0o4755, 0o6711)
_TIMES: Final = (None, None, 0, -1, -(2**31), 2**31, 15_032_385_535)
_SMALL: Final = 1 << 20


@dataclass(frozen=True)
class File:
    content: bytes
    mode: int
    mtime: int | None
    attribute: bool


@dataclass(frozen=True)
class Sparse:
    size: int


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class HardLink:
    """Another name of a file outside."""


@dataclass(frozen=True)
class Special:
    kind: int


@dataclass(frozen=True)
class Repository:
    """A `.git` whose every program leaves a marker."""


@dataclass(frozen=True)
class Folder:
    entries: Mapping[bytes, "Recipe"]
    mode: int
    mtime: int | None


Recipe = File | Sparse | Link | HardLink | Special | Repository | Folder


def names() -> st.SearchStrategy[bytes]:
    """Any name that a file system takes, the odd ones often."""
    anything = st.binary(min_size=1, max_size=40).map(
        lambda raw: raw.replace(b"/", b"|").replace(b"\0", b"\x01")
    )
    return st.sampled_from(NAMES) | anything.filter(lambda raw: raw not in (b".", b".."))


def recipes() -> st.SearchStrategy[Recipe]:
    """Whatever may lie in an inbox."""
    leaves: st.SearchStrategy[Recipe] = st.one_of(
        st.builds(
            File,
            st.binary(max_size=20),
            st.sampled_from(_FILE_MODES),
            st.sampled_from(_TIMES),
            st.booleans(),
        ),
        st.builds(Sparse, st.sampled_from((1 << 20, TERA))),
        st.builds(Link, st.sampled_from(("{outside}", "{outside}/file", "loop", ".", "nowhere"))),
        st.builds(Link, st.sampled_from(("/", "/dev/zero", "{outside}/pipe", "../../outside"))),
        st.builds(HardLink),
        st.builds(
            Special, st.sampled_from((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK))
        ),
        st.builds(Repository),
    )
    return st.recursive(leaves, _folders, max_leaves=8)


def _folders(entries: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    return st.builds(
        Folder,
        st.dictionaries(names(), entries, max_size=4),
        st.sampled_from(_FOLDER_MODES),
        st.sampled_from(_TIMES),
    )


@dataclass(frozen=True)
class Outside:
    """What is none of the daemon's business: links lead here, and one file has names inside."""

    root: Path

    @property
    def marker(self) -> Path:
        """What a planted program makes."""
        return self.root / "ran"

    def make(self) -> None:
        (self.root / "folder").mkdir(parents=True)
        for path in (self.root / "file", self.root / "shared", self.root / "folder" / "deep"):
            path.write_bytes(b"mine")
            path.chmod(0o640)
        os.mkfifo(self.root / "pipe")

    def picture(self) -> "Picture":
        """Take it down, and have the file system note from now on who reads in it."""
        seen = picture(self.root)
        for path in list(_below(self.root)):
            os.utime(path, ns=(0, path.stat().st_mtime_ns))
        return seen

    def was_read(self) -> list[Path]:
        """Return what was listed or read since the last picture, where the file system notes it.

        What has names inside too is read there, to be compared.
        """
        mine = (path for path in _below(self.root) if path.name != "shared")
        return [path for path in mine if path.stat().st_atime_ns]


def make(path: Path, recipe: Recipe, outside: Outside) -> None:
    """Lay a recipe down; what this user may not make becomes a FIFO."""
    match recipe:
        case File(content, mode, mtime, attribute):
            path.write_bytes(content)
            if attribute:
                with suppress(OSError, AttributeError):  # not every file system has them
                    os.setxattr(path, b"user.note", b"kept")
            path.chmod(mode)
            _set_time(path, mtime)
        case Sparse(size):
            path.touch()
            os.truncate(path, size)
        case Link(target):
            path.symlink_to(target.format(outside=outside.root))
        case HardLink():
            path.hardlink_to(outside.root / "shared")
        case Special(kind):
            try:
                os.mknod(path, kind | 0o600, os.makedev(1, 3))
            except OSError:
                os.mkfifo(path)
        case Repository():
            _plant(path / ".git", outside.marker)
        case Folder(entries, mode, mtime):
            path.mkdir()
            for name, entry in entries.items():
                make(path / os.fsdecode(name), entry, outside)
            path.chmod(mode)
            _set_time(path, mtime)


def _plant(git: Path, marker: Path) -> None:
    for folder in ("hooks", "info", "objects", "refs"):
        (git / folder).mkdir(parents=True)
    program = f"#!/bin/sh\ntouch {marker}\n"
    for name in ("evil", "hooks/post-checkout", "hooks/post-index-change", "hooks/pre-commit"):
        (git / name).write_text(program)
        (git / name).chmod(0o755)
    config = "".join(
        f"[{section}]\n\t{key} = 'touch {marker}'\n"
        for section, key in (
            ("core", "fsmonitor"),
            ("core", "pager"),
            ('filter "evil"', "clean"),
            ('filter "evil"', "smudge"),
            ('diff "evil"', "textconv"),
        )
    )
    (git / "config").write_text(config)
    (git / "info" / "attributes").write_text("* filter=evil diff=evil\n")
    (git / "HEAD").write_text("ref: refs/heads/main\n")


def _set_time(path: Path, mtime: int | None) -> None:
    if mtime is not None:
        os.utime(path, (mtime, mtime))


class Facts(NamedTuple):
    """What must not change of one entry."""

    mode: int
    inode: int
    owner: tuple[int, int]
    mtime: int
    size: int  # 0 of folders
    content: bytes | int  # of what is too large its blocks, of folders nothing
    attributes: tuple[str, ...]


Picture = dict[Path, Facts]
TOP: Final = Path()


def picture(top: Path) -> Picture:
    """Take down everything below `top`, itself included; what may not be read is taken as such."""
    return {path.relative_to(top): _facts(path) for path in _below(top)}


def _below(top: Path) -> Iterator[Path]:
    yield top
    if top.is_symlink() or not top.is_dir():
        return
    with suppress(PermissionError):
        for path in sorted(top.iterdir()):
            yield from _below(path)


def _facts(path: Path) -> Facts:
    facts = path.lstat()
    is_folder = stat.S_ISDIR(facts.st_mode)
    content: bytes | int = 0 if is_folder else facts.st_blocks
    if stat.S_ISLNK(facts.st_mode):
        content = os.fsencode(path.readlink())
    elif stat.S_ISREG(facts.st_mode) and facts.st_size <= _SMALL:
        with suppress(PermissionError):
            content = path.read_bytes()
    attributes: list[str] = []
    with suppress(OSError, AttributeError):
        attributes = os.listxattr(path, follow_symlinks=False)
    return Facts(
        facts.st_mode,
        facts.st_ino,
        (facts.st_uid, facts.st_gid),
        facts.st_mtime_ns,
        0 if is_folder else facts.st_size,
        content,
        tuple(attributes),
    )
