"""What an adapter of an agent program is: how it is called, and how what it prints is read.

An adapter knows one program: its arguments, how it is given the prompt, its event stream, its word
for the end. It believes nothing else: `outcome.py` holds its telling against the exit code, and Git
shows the work. A reader lives as long as one run; it is called from the thread that takes the
output, and never raises for what a program prints.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Self

from alluvium_like.agents.adapters.reach import Reach
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import Event, Usage
from alluvium_like.config.agents import Profile
from alluvium_like.config.own_agents import Allowance
from alluvium_like.guarded import own_path, place, read_regular

Told = dict[str, Any]
"""An object of JSON, of whatever shape."""
_MOST_TOKENS = 10**12
_MOST_DOLLARS = 10**6


@dataclass(frozen=True, slots=True)
class Call:
    """What one run is to do.

    `prompt` is for its standard input, `prompt_file` holds the same with secrets masked. `session`
    is the program's own, to go on with, empty for a new one, and `told` what its runs have already
    told to have used. `home` is a folder of the agent's for what it keeps from one attempt of the
    task to the next. `boxed`: it is run in a box of ours, so it needs none of its own. `arguments`
    are the person's, and so is what `environment` holds beside the basics. `command` is what a
    person runs in place of the program, `allowance` what one request may cost, None for as much as
    it takes.
    """

    worktree: Path
    prompt: str
    prompt_file: Path
    home: Path
    arguments: tuple[str, ...] = ()
    model: str = ""
    session: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    told: Usage = field(default_factory=Usage)
    command: tuple[str, ...] = ()
    allowance: Allowance | None = None
    boxed: bool = False

    @property
    def stdin(self) -> bytes:
        """The prompt as it is given to a standard input."""
        return self.prompt.encode(errors="surrogateescape")

    def keep(self, *names: str, text: str) -> Path:
        """Place a file below `home`, whatever an agent has planted there. Blocks; OSError.

        Only its owner may read it: it may hold the prompt.
        """
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with own_path(self.home.parent, self.home.name, *names[:-1]) as folder:
            place(folder, names[-1], text, mode=0o600)
        return self.home.joinpath(*names)

    def kept(self, *names: str, limit: int) -> bytes:
        """Read at most so many bytes of a file below `home`; empty where there is none. Blocks."""
        with suppress(OSError), own_path(self.home.parent, self.home.name, *names[:-1]) as folder:
            return read_regular(folder, names[-1], limit) or b""
        return b""


@dataclass(frozen=True, slots=True)
class Invocation:
    """How the program is run: arguments behind its own name, further variables, its input."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""


@dataclass(frozen=True, slots=True)
class Login:
    """Whether a program can log in, as far as this is seen without asking anybody: None unknown."""

    ready: bool | None
    words: str


class Reader:
    """Reads what one run prints, line by line, without the line's end."""

    def line(self, text: str) -> Iterable[Event]:
        """Return what a line of the standard output tells."""
        return ()

    def error_line(self, text: str) -> Iterable[Event]:
        """Return what a line of the standard error tells."""
        return ()

    def finish(self) -> Iterable[Event]:
        """Return what is known only when the program has ended."""
        return ()


class JsonReader(Reader):
    """Reads a stream of JSON objects, one a line; other lines are taken for complaints."""

    def line(self, text: str) -> Iterable[Event]:
        """Hand an object to `object`."""
        try:
            told = parse(text)
        except (ValueError, RecursionError):
            return self.error_line(text)
        if not isinstance(told, dict):
            return ()
        return list(whole(self.object(told)))

    def object(self, told: Told) -> Iterable[Event]:
        """Return what one object tells; may raise what a wrong shape raises."""
        raise NotImplementedError


def option(flag: str, value: str) -> tuple[str, ...]:
    """Return an option with its value, nothing where that is empty."""
    return (flag, value) if value else ()


def parse(text: str) -> object:
    """Return what JSON says, without the half characters that no store takes. ValueError."""
    told: object = json.loads(text)
    if "\\ud" in text.lower():
        return json.loads(json.dumps(told, ensure_ascii=False).encode("utf-8", "replace"))
    return told


def whole(events: Iterable[Event]) -> Iterator[Event]:
    """Yield events up to the point at which an object is not of the shape that was expected."""
    try:
        yield from events
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        return


def count(told: object) -> int:
    """Return a number of tokens; what cannot be one is 0."""
    return int(told) if isinstance(told, int | float) and 0 < told <= _MOST_TOKENS else 0


def dollars(told: object) -> float | None:
    """Return a cost in US dollars, None where it cannot be one."""
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return float(told) if 0 <= told <= _MOST_DOLLARS else None


class Adapter(Reach, ABC):
    """One agent program. `proven`: it was run, and the tests run it."""

    name: ClassVar[str]
    program: ClassVar[str]
    install: ClassVar[str]
    proven: ClassVar[bool] = True
    resumes: ClassVar[bool] = False
    key_variables: ClassVar[tuple[str, ...]] = ()
    """Variables of which one lets it log in."""
    login_files: ClassVar[tuple[str, ...]] = ()
    """Files below the home folder that an earlier login leaves."""
    settings_files: ClassVar[tuple[str, ...]] = ()
    """Files and folders below the home folder in which a person says how it works; what it runs may
    stand there, so in a box it only reads them, whether they let it log in or not."""
    version_arguments: ClassVar[tuple[str, ...]] = ("--version",)
    """With these it prints its version, and does nothing else; empty: nobody asks it."""
    costs_at_end: ClassVar[bool] = False
    """Whether it tells of tokens while it runs, but of what they cost only when it ends."""

    def of(self, profile: Profile) -> Self:
        """Return it for one profile, of whose keys it may read more than a call says."""
        return self

    def program_line(self, call: Call) -> tuple[str, ...]:
        """Return the program that is run, with what stands before all arguments."""
        return call.command or (self.program,)

    @abstractmethod
    def invoke(self, call: Call) -> Invocation:
        """Return how it is run. Blocks where files of its own have to be written; OSError."""

    @abstractmethod
    def reader(self, call: Call) -> Reader:
        """Return a reader for one run."""

    def login(self, environment: Mapping[str, str]) -> Login:
        """Tell whether it can log in with an environment."""
        for name in self.key_variables:
            if environment.get(name):
                return Login(True, f"with {name}")
        home, other = environment.get("HOME", ""), environment.get(self.folder_variable)
        for file in self.login_files:
            path = Path(other) / Path(file).name if other else Path(home) / file
            if self.holds_login(path, environment):
                return Login(True, f"with {path}" if other else f"with ~/{file}")
        if not self.key_variables:
            return Login(None, "not known")
        return Login(False, f"set {' or '.join(self.key_variables)}, or log in with {self.program}")

    def files_of_person(self, environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
        """Yield what there is of its login and settings, with the place below a home folder."""
        for name in dict.fromkeys((*self.login_files, *self.settings_files)):
            path, place = Path(environment.get("HOME", ""), name), PurePosixPath(name)
            if self.own_folder and place.is_relative_to(self.own_folder):
                path = self.folder(environment) / place.relative_to(self.own_folder)
            if path.is_absolute() and os.path.exists(path):  # noqa: PTH110 - it may be shut
                yield path, name

    def holds_login(self, file: Path, environment: Mapping[str, str]) -> bool:
        """Tell whether a file of its own lets it log in."""
        return file.is_file()


def complaints_in(text: str) -> Iterator[Event]:
    """Yield what a line for people tells, if it is a complaint of a known kind."""
    event = event_of(text.strip())
    if text.strip() and getattr(event, "outcome", event) is not None:
        yield event
