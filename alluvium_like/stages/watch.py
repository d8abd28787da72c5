"""What the escape detector remembers while the daemon lives; `escapes` does the looking."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio

from alluvium_like.gitrepo.journal import Mark
from alluvium_like.gitrepo.watched import Files
from alluvium_like.stages.system_files import SystemFiles
from alluvium_like.written import Print


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Something that runs what agents made: an attempt with its set-up, or tests of its work.

    `task_id` and `number` are the attempt's, empty where it is none. `boxed`: it ran where what is
    watched cannot be reached.
    """

    name: str
    task_id: str = ""
    number: int = 0
    boxed: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in one look. `newest` is the number of the last task that there was then."""

    at: str
    mark: Mark
    newest: int
    owners: Files
    ours: Files
    refs: Mapping[str, str]
    system: Mapping[str, SystemFiles]


@dataclass(slots=True)
class Watch:
    """One memory for all runs: each look compares with the last, so nothing is found twice."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    last: Sight | None = None
    runs: list[Run] = field(default_factory=list)
    """What runs now, from the look before it to the look after it."""
    left: list[Run] = field(default_factory=list)
    """What ended without a look: it may have done what the next one finds."""
    boxed: set[tuple[str, int]] = field(default_factory=set)
    """The attempts of this daemon's that ran in a box."""
    told: set[str] = field(default_factory=set)
    """The seals of changed inputs that a person was told of."""
    accused: dict[Run, str] = field(default_factory=dict)
    held: bool = False
    """Whether the condition was known to hold."""
    good: dict[str, bytes] = field(default_factory=dict)
    """What was there before an escape: who puts it back mends."""
    known_refs: dict[str, tuple[Print, str]] = field(default_factory=dict)
    hooks: tuple[bytes, str] = (b"", "")
    """The owner's configuration, and where else hooks are, as it says."""

    @property
    def in_window(self) -> tuple[Run, ...]:
        """All that ran at any time since the last look."""
        return (*self.runs, *self.left)
