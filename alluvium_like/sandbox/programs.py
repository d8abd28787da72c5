"""Which files a program needs that is not a part of the system: its own, and its interpreter's.

Looked up from outside before it is run in a box: links are followed one by one, `#!` lines read,
and where a program lies in an installation (node_modules, a virtual environment, a version manager)
the whole of that may be read. Everything here blocks.
"""

# ruff: noqa: PTH110, PTH112, PTH113, PTH114 - those of Path raise where nobody may look

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import exists, isdir, isfile, islink  # which say no where nobody may look
from pathlib import Path
from typing import Final

import alluvium_like
from alluvium_like.sandbox.box import SYSTEM, Access, Mount

_MANAGERS: Final = (
    *(".pyenv", ".rbenv", ".nodenv", ".nvm", ".asdf", ".volta", ".rustup", ".sdkman", ".bun"),
    *(".deno", ".fnm", ".local/share/mise", ".local/share/fnm", ".local/share/uv", ".local/bin"),
)
"""Folders below a home in which tools are installed, and nothing secret."""
_CARGO: Final = ".cargo/bin"  # beside it lies the key of the registry
_SHARED: Final = ".local"  # as the home folder itself, which may be one of npm: keys lie there, too
_PARTS: Final = ("bin", "include", "lib", "lib64", "libexec")
"""What of an installation is programs, and nothing of a person's."""
PACKAGE: Final = Path(alluvium_like.__file__).parent
PYTHON: Final = Path(os.path.realpath(sys.executable))
"""The interpreter of the daemon, beneath its virtual environment."""
_MOST_HOPS: Final = 40
_HEAD_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Doubt:
    """Where agents have a say: folders that they write, and a tree in which their work lands."""

    written: tuple[Path, ...] = ()
    landed: Path | None = None

    @property
    def _all(self) -> tuple[Path, ...]:
        return self.written if self.landed is None else (*self.written, self.landed)

    def covers(self, path: Path) -> bool:
        """Tell whether an agent may have had a say in what is at a path."""
        return any(each.is_relative_to(folder) for each in _followed(path) for folder in self._all)

    def holds(self, path: Path) -> bool:
        """Tell whether a path itself, be it a link, may be an agent's, wherever that leads."""
        *links, folder = _followed(path.parent)
        ways = (*links, folder / path.name, path)
        return any(each.is_relative_to(doubted) for each in ways for doubted in self._all)

    def allows(self, path: Path) -> bool:
        """Tell whether something of the tree where work lands may be shown as it is.

        Not the tree itself, and nothing to which a link in it leads.
        """
        if self.landed is None or self.landed not in path.parents:
            return False
        return not any(path.is_relative_to(each) for each in self.written) and not any(
            each.is_relative_to(self.landed) and islink(each) for each in _followed(path)
        )


@dataclass(frozen=True, slots=True)
class _Look:
    """Where programs are looked for, and what is doubted; how many interpreters led here."""

    search: str
    cwd: Path
    doubt: Doubt
    hops: int = 0


def program_mounts(
    argv: Sequence[str],
    environment: Mapping[str, str],
    cwd: Path,
    doubt: Doubt = Doubt(),
) -> list[Mount]:
    """Return what the program of a command line needs, and the absolute paths that it names.

    What is doubted is not looked into: programs there say what an agent likes of their needs. What
    agents write is shown anyway; of what has landed the file that is named is, and the installation
    in which it lies.
    """
    if not argv:
        return []
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    search = os.pathsep.join(folder for folder in folders if Path(folder).is_absolute())
    look = _Look(search, cwd, doubt)
    return list(dict.fromkeys((*_of_words(argv[1:], look), *_of_program(argv[0], look))))


def tool_mounts(
    environment: Mapping[str, str],
    doubt: Doubt = Doubt(),
) -> list[Mount]:
    """Return what of the home folder PATH leads to: the tools that a person has installed."""
    home = Path(environment.get("HOME") or os.sep)
    found: dict[Mount, None] = {}
    for text in environment.get("PATH", "").split(os.pathsep):
        folder = Path(text)
        if not text or not folder.is_absolute() or not isdir(folder) or _is_system(folder):
            continue
        found |= dict.fromkeys(_of_tools(folder, home, doubt))
    return [each for each in found if not doubt.covers(each.source) or doubt.allows(each.source)]


def own_mounts() -> list[Mount]:
    """Return what of this program the helper in a box needs, and the agents that are our own."""
    return [Mount.of(PACKAGE), *_of_program(os.fspath(PYTHON), _Look("", Path(os.sep), Doubt()))]


def _of_tools(folder: Path, home: Path, doubt: Doubt) -> Iterator[Mount]:
    if _is_around(home, folder) or home == Path(os.sep):  # "/", too, from a "$UNSET/" in PATH
        return
    for name in _MANAGERS:
        if folder.is_relative_to(home / name):
            yield Mount.of(home / name)
            return
    if folder == home / _CARGO and isdir(home / ".rustup"):
        yield Mount.of(home / ".rustup")
    if prefix := _prefix_of(folder, doubt):
        yield from _installed_in(prefix)
    else:
        yield Mount.of(folder)


def _of_program(word: str, look: _Look) -> Iterator[Mount]:
    """Yield what one program needs; nothing for one that is not found: running it will tell."""
    found = shutil.which(word, path=look.search) if os.sep not in word else str(look.cwd / word)
    if not found or "\0" in found or look.hops > _MOST_HOPS:
        return
    path = Path(os.path.normpath(found))
    for _ in range(_MOST_HOPS):
        if look.doubt.holds(path):
            if look.doubt.allows(path) and isfile(path):
                yield Mount.of(path)
                if prefix := _prefix_of(path.parent, look.doubt):
                    yield from _installed_in(prefix)
            return
        yield from _around(path, look.doubt)
        if not islink(path):
            break
        if not _is_system(path):
            yield Mount(path, Access.LINK, path.readlink())
        path = Path(os.path.normpath(path.parent / path.readlink()))
    if isfile(path) and not _is_system(path):
        yield Mount.of(path)
    yield from _of_interpreter(path, look)


def _around(path: Path, doubt: Doubt) -> Iterator[Mount]:
    """Yield the installation in which a file lies, as far as it is one."""
    if _is_system(path):
        return
    modules = [each for each in path.parents if each.name == "node_modules"]
    if modules:
        yield Mount.of(modules[-1])
    for folder in path.parents:
        settings = folder / "pyvenv.cfg"
        if isfile(settings):
            yield from _installed_in(folder)
            yield from _base_of(settings, doubt)
            return
    if prefix := _prefix_of(path.parent, doubt):
        yield from _installed_in(prefix)


def _installed_in(prefix: Path) -> Iterator[Mount]:
    """Yield an installation; of one that shares its folder with what a person keeps, its parts."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - there may be none
    if prefix.name != _SHARED and not _is_around(home, prefix):
        yield Mount.of(prefix)
        return
    yield from (Mount.of(prefix / name) for name in _PARTS if isdir(prefix / name))


def _is_around(home: Path, folder: Path) -> bool:
    """Tell whether a folder holds a home folder, by whichever name: /home may be a link."""
    real_home, real = Path(os.path.realpath(home)), Path(os.path.realpath(folder))
    return home.is_relative_to(folder) or real_home.is_relative_to(real)


def _base_of(settings: Path, doubt: Doubt) -> Iterator[Mount]:
    """Yield the installation that a virtual environment stands on."""
    for line in settings.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition("=")
        named = Path(value.strip())
        if key.strip() == "home" and named.is_absolute() and "\0" not in value:
            base = Path(os.path.realpath(named))
            if not _is_system(base) and not doubt.covers(named):
                yield from _installed_in(_prefix_of(base, doubt) or base)


def _prefix_of(folder: Path, doubt: Doubt) -> Path | None:
    """Return the installation whose programs lie in a folder, where that is one."""
    prefix, library = folder.parent, folder.parent / "lib"
    if folder.name != "bin" or prefix == Path(os.sep):
        return None
    marks = (prefix / "libexec" / "git-core", library / "node_modules", *library.glob("python3*"))
    inside = doubt.allows(prefix)

    def counts(mark: Path) -> bool:
        return isdir(mark) and (not doubt.covers(mark) or (inside and doubt.allows(mark)))

    return prefix if any(map(counts, marks)) else None


def _of_interpreter(script: Path, look: _Look) -> Iterator[Mount]:
    try:
        with script.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return
    words = head.split(b"\n", 1)[0].removeprefix(b"#!").decode(errors="replace").split()
    if not head.startswith(b"#!") or not words:
        return
    if Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    if words and Path(words[0]) != script:
        yield from _of_program(words[0], replace(look, hops=look.hops + 1))


def _of_words(words: Sequence[str], look: _Look) -> Iterator[Mount]:
    """Yield the absolute paths among the words of a command."""
    for path in map(Path, words):
        named = path.is_absolute() and len(path.parts) > 2
        if not named or not exists(path) or _is_system(path):
            continue
        if not look.doubt.covers(path) or look.doubt.allows(path):
            yield Mount.of(path)
        elif islink(path) and not look.doubt.holds(path):  # the owner's, to what is shown as it is
            yield Mount(path, Access.LINK, path.readlink())


def _followed(path: Path) -> Iterator[Path]:
    """Yield the place of each link that leads to a file, and then the file's own."""
    ahead, here, hops = list(reversed(path.parts)), Path(os.sep), 0
    while ahead and hops <= _MOST_HOPS:
        part = ahead.pop()
        here = here.parent if part == os.pardir else here / part
        if islink(here):
            yield here
            hops += 1
            ahead.extend(reversed(here.readlink().parts))
            here = here.parent
    yield here


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(system) for system in SYSTEM)
