"""The table [sandbox] of config.toml, and what of it an agent may have of its own.

The box keeps what agents run from everything but their task. `merged` is the one place where what a
profile says is put over what the table says.
"""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from alluvium_like.config.hosts import HostTexts
from alluvium_like.config.problems import refuse
from alluvium_like.config.values import Table, Text

Mode = Literal["auto", "bubblewrap", "none"]
Network = Literal["none", "loopback", "allow", "full"]
_NETWORK_WORDS: Final = (
    '"none": no network at all, not even a loopback. "loopback": one of its own, on which what it '
    'starts is reached, and nothing else. "allow": that, and the hosts named in \'hosts\'. "full": '
    "the network of the machine, with whatever listens on it"
)


def _outside(value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() and path.parts[:1] != ("~",):
        refuse("neither an absolute path nor one in the home folder", "such as /data or ~/.npmrc")
    if ".." in path.parts or len(path.parts) < 2:
        refuse("a whole disk or home folder, or a path with ..", "such as /data or ~/.npmrc")
    try:
        Path(path).expanduser()
    except RuntimeError:
        refuse("in the home folder of a user who has none", "an absolute path")
    return str(path)


Places = Annotated[
    tuple[Annotated[Text, AfterValidator(_outside)], ...],
    Field(strict=False),
]


class Sandbox(Table):
    """The box that agents, the commands of [setup] and tests run in: what they may read, write and
    reach. An agent may have its own mode, network, hosts and paths.
    """

    mode: Mode = Field(
        default="auto",
        description='"bubblewrap": everything that agents write and run is run in a box made by '
        'bubblewrap, and where that cannot be made nothing starts. "auto": in a box where '
        'bubblewrap works, else without, which status, doctor and the log tell. "none": with the '
        "rights of the daemon.",
    )
    network: Network = Field(
        default="allow",
        description=f"What agents and the commands of [setup] reach. {_NETWORK_WORDS}.",
    )
    tests_network: Network = Field(
        default="loopback", description="What the tests of [integration] reach; the same words."
    )
    hosts: HostTexts = Field(
        default=(),
        description='With network = "allow": what is reached beside the hosts that the preset of '
        'an agent needs for its model. "api.example.org" (https and http), '
        '"git.example.org:8443", "*.example.org", and for what listens on this machine '
        '"localhost:11434". Everything else is refused, and told as an event.',
    )
    readable: Places = Field(
        default=(),
        description="Further files and folders that may be read, absolute or in your home folder, "
        'such as "/data/models" or "~/.npmrc". What belongs to the system may be read anyway.',
    )
    writable: Places = Field(
        default=(),
        description='Further ones that may be written too, such as a cache: "~/.cache/pip". What '
        "an agent writes there, others read: programs among it can be made to do its will. None "
        "may hold another path that is named, nor a folder of PATH.",
    )
    max_processes: int = Field(
        default=1000,
        ge=0,
        description="How many processes one box may hold; 0 is no limit, as in all that follow.",
    )
    max_memory_bytes: int = Field(
        default=8_000_000_000,
        ge=0,
        description="How much memory a box may use, in bytes. Without control groups it is what "
        "each of its processes may use.",
    )
    max_cpu_seconds: int = Field(
        default=0,
        ge=0,
        description="How much processor time each process may use, in seconds.",
    )
    max_file_bytes: int = Field(
        default=10_000_000_000, ge=0, description="How large a file may become, in bytes."
    )
    max_disk_bytes: int = Field(
        default=20_000_000_000,
        ge=0,
        description="How much the worktree, repository and .agent/ of an attempt may take up "
        "together, and the tree of set-ups and tests, in bytes, with a box or without. What "
        "passes it is ended.",
    )
    max_scratch_bytes: int = Field(
        default=2_000_000_000,
        ge=0,
        description="How much the private /tmp, and the private home folder of tests, may hold "
        "each, in bytes. It is memory.",
    )

    def merged(self, own: "OwnBox") -> Self:
        """Return it as it is for an agent."""
        changes: dict[str, object] = {
            "readable": tuple(dict.fromkeys((*self.readable, *own.readable))),
            "writable": tuple(dict.fromkeys((*self.writable, *own.writable))),
            "hosts": tuple(dict.fromkeys((*self.hosts, *own.hosts))),
        }
        if own.sandbox:
            changes["mode"] = own.sandbox
        if own.network:
            changes["network"] = own.network
        return self.model_copy(update=changes)


class OwnBox(Table):
    """What an agent has of its own where its box is not as [sandbox] says."""

    sandbox: Literal["", Mode] = Field(
        default="", description="The mode of its box, as in [sandbox]. Empty: the one there."
    )
    network: Literal["", Network] = Field(
        default="", description="What it reaches, as in [sandbox]. Empty: as there."
    )
    hosts: HostTexts = Field(
        default=(), description="Hosts that it reaches beside those of [sandbox] and its preset."
    )
    readable: Places = Field(
        default=(), description="Paths that it may read beside those of [sandbox]."
    )
    writable: Places = Field(
        default=(), description="Paths that it may write beside those of [sandbox]."
    )

    @model_validator(mode="after")
    def _no_box_has_no_walls(self) -> Self:
        own = (self.network, self.hosts, self.readable, self.writable)
        if self.sandbox == "none" and any(own):
            refuse('a network, hosts or paths with sandbox = "none"', "leave them out")
        return self


def refuse_inside(writable: Iterable[str], boxes: Iterable[Sandbox]) -> None:
    """Refuse what lies in folders that agents write: it would be what they make of it.

    That is named paths, and the folders of PATH, in which the daemon's own programs are found.
    """
    named = {path for box in boxes for path in (*box.readable, *box.writable)}
    searched = [each for each in os.environ.get("PATH", "").split(os.pathsep) if each]
    for outer in sorted(writable):
        if inner := next((each for each in sorted(named - {outer}) if _is_in(each, outer)), ""):
            refuse(f"sandbox: '{inner}' lies in '{outer}', which agents write", "one of them")
        if inner := next((each for each in searched if _is_in(each, outer)), ""):
            what = f"sandbox: '{outer}' may be written, and PATH finds programs in '{inner}'"
            refuse(what, "a folder without programs, such as ~/go/pkg for ~/go")


def _is_in(inner: str, outer: str) -> bool:
    ways = [(Path(inner).expanduser(), Path(outer).expanduser())]
    ways += [(Path(os.path.realpath(a)), Path(os.path.realpath(b))) for a, b in ways]
    return any(a.is_relative_to(b) for a, b in ways)
