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
from dataclasses import dataclass
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
class _Look:
    """Where programs are looked for, and what is not believed; see `program_mounts`."""

    search: str
    cwd: Path
    written: Sequence[Path]

    def believes(self, path: Path) -> bool:
        """Tell whether no agent has had a say in what is at a path."""
        return not any(
            each.is_relative_to(folder) for each in _followed(path) for folder in self.written
        )


def program_mounts(
    argv: Sequence[str],
    environment: Mapping[str, str],
    cwd: Path,
    written: Sequence[Path] = (),
) -> list[Mount]:
    """Return what the program of a command line needs, and the absolute paths that it names.

    Programs in folders that agents have `written` are not looked at: they are shown anyway, and say
    what an agent likes of their needs.
    """
    if not argv:
        return []
    look = _Look(environment.get("PATH", os.defpath), cwd, written)
    return list(dict.fromkeys((*_of_words(argv[1:], look), *_of_program(argv[0], look))))


def tool_mounts(environment: Mapping[str, str]) -> list[Mount]:
    """Return what of the home folder PATH leads to: the tools that a person has installed."""
    home = Path(environment.get("HOME") or os.sep)
    found: dict[Mount, None] = {}
    for text in environment.get("PATH", "").split(os.pathsep):
        folder = Path(text)
        if not text or not folder.is_absolute() or not isdir(folder) or _is_system(folder):
            continue
        found |= dict.fromkeys(_of_tools(folder, home))
    return list(found)


def own_mounts() -> list[Mount]:
    """Return what of this program the helper in a box needs, and the agents that are our own."""
    return [Mount.of(PACKAGE), *_of_program(os.fspath(PYTHON), _Look("", Path(os.sep), ()))]


def _of_tools(folder: Path, home: Path) -> Iterator[Mount]:
    if home.is_relative_to(folder) or home == Path(os.sep):  # "/", too, from a "$UNSET/" in PATH
        return
    for name in _MANAGERS:
        if folder.is_relative_to(home / name):
            yield Mount.of(home / name)
            return
    if folder == home / _CARGO and isdir(home / ".rustup"):
        yield Mount.of(home / ".rustup")
    if prefix := _prefix_of(folder):
        yield from _installed_in(prefix)
    else:
        yield Mount.of(folder)


def _of_program(word: str, look: _Look) -> Iterator[Mount]:
    """Yield what one program needs; nothing for one that is not found: running it will tell."""
    found = shutil.which(word, path=look.search) if os.sep not in word else str(look.cwd / word)
    if not found:
        return
    path = Path(os.path.normpath(found))
    for _ in range(_MOST_HOPS):
        if not look.believes(path):
            return
        yield from _around(path)
        if not islink(path):
            break
        if not _is_system(path):
            yield Mount(path, Access.LINK, path.readlink())
        path = Path(os.path.normpath(path.parent / path.readlink()))
    if isfile(path) and not _is_system(path):
        yield Mount.of(path)
    yield from _of_interpreter(path, look)


def _around(path: Path) -> Iterator[Mount]:
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
            yield from _base_of(settings)
            return
    if prefix := _prefix_of(path.parent):
        yield from _installed_in(prefix)


def _installed_in(prefix: Path) -> Iterator[Mount]:
    """Yield an installation; of one that shares its folder with what a person keeps, its parts."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - there may be none
    if prefix.name != _SHARED and not home.is_relative_to(prefix):
        yield Mount.of(prefix)
        return
    yield from (Mount.of(prefix / name) for name in _PARTS if isdir(prefix / name))


def _base_of(settings: Path) -> Iterator[Mount]:
    """Yield the installation that a virtual environment stands on."""
    for line in settings.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home" and value.strip():
            base = Path(os.path.realpath(value.strip()))
            if not _is_system(base):
                yield from _installed_in(_prefix_of(base) or base)


def _prefix_of(folder: Path) -> Path | None:
    """Return the installation whose programs lie in a folder, where that is one."""
    prefix, library = folder.parent, folder.parent / "lib"
    if folder.name != "bin" or prefix == Path(os.sep):
        return None
    programs_of_git = prefix / "libexec" / "git-core"
    modules = library / "node_modules"
    if any(map(isdir, (programs_of_git, modules))) or any(library.glob("python3*")):
        return prefix
    return None


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
        yield from _of_program(words[0], look)


def _of_words(words: Sequence[str], look: _Look) -> Iterator[Mount]:
    """Yield the absolute paths among the words of a command."""
    for path in map(Path, words):
        named = path.is_absolute() and len(path.parts) > 2
        if named and exists(path) and not _is_system(path) and look.believes(path):
            yield Mount.of(path)


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
