"""A service of one workspace as text: a systemd user unit, or a property list for launchd.

Made from facts alone, so the examples in the source tree are the same text with other facts:
`python -m alluvium_like.surface.definition systemd > systemd/alluvium-like.service`.
"""

import math
import plistlib
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Final
from xml.parsers.expat import ExpatError

# The daemon ends itself 5 s after the grace; the rest is for a loaded machine.
_STOP_MARGIN_SECONDS: Final = 30

_TEMPLATE: Final = Path(__file__).parent / "templates" / "alluvium-like.service"
_PLAIN_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


class Kind(StrEnum):
    """What runs services."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"


@dataclass(frozen=True, slots=True)
class Service:
    """The facts; paths are absolute, UTF-8 and without control characters.

    `variables` are those that config.toml passes on: the service has to be given them.
    """

    name: str
    workspace: str
    program: tuple[str, ...]
    search_path: str
    grace_seconds: float
    variables: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What systemd and launchd call it, without a suffix."""
        return f"alluvium-like-{self.name}"

    @property
    def stop_seconds(self) -> int:
        """How long a stop may take before everything is killed."""
        return math.ceil(self.grace_seconds) + _STOP_MARGIN_SECONDS

    def command(self, subcommand: str) -> list[str]:
        """Return the program and its arguments."""
        return [*self.program, "-C", self.workspace, subcommand]


def definition(service: Service, kind: Kind) -> str:
    """Return the text of the unit or of the property list."""
    return _property_list(service) if kind is Kind.LAUNCHD else _unit(service)


def runs_workspace(text: str, service: Service, kind: Kind) -> bool:
    """Tell whether an existing definition runs the daemon of the same workspace."""
    if kind is Kind.SYSTEMD:
        return f" -C {_word(service.workspace)} serve\n" in text
    try:
        arguments = plistlib.loads(text.encode())["ProgramArguments"]
    except (ValueError, LookupError, TypeError, plistlib.InvalidFileException, ExpatError):
        return False
    return bool(arguments[-3:] == service.command("serve")[-3:])


def example(kind: Kind) -> str:
    """Return the definition for the workspace `alluvium` in somebody's home."""
    from alluvium_like.config import Config  # slow to import, and only wanted here

    home = "/Users/you" if kind is Kind.LAUNCHD else "/home/you"
    text = definition(
        Service(
            name="alluvium",
            workspace=f"{home}/alluvium",
            program=(f"{home}/.local/bin/alluvium-like",),
            search_path=f"{home}/.local/bin:/usr/local/bin:/usr/bin:/bin",
            grace_seconds=Config().safety.shutdown_grace_seconds,
        ),
        kind,
    )
    return text if kind is Kind.LAUNCHD else text.replace(home, "%h")


def _word(text: str) -> str:
    """Write one word of a unit: C's rules for backslash and quote, %% against specifiers."""
    safe = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return safe if _PLAIN_WORD.fullmatch(safe) else f'"{safe}"'


def _unit(service: Service) -> str:
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=service.label,
        workspace_text=service.workspace.replace("%", "%%"),
        serve=" ".join(map(_word, service.command("serve"))),
        reload=" ".join(map(_word, service.command("reload"))),
        path=_word(f"PATH={service.search_path}"),
        stop_seconds=service.stop_seconds,
    )


def _property_list(service: Service) -> str:
    output = f"{service.workspace}/logs/service.log"
    facts = {
        "Label": service.label,
        "ProgramArguments": service.command("serve"),
        # launchd's own PATH is short: git, agents and test tools are to be found as in a terminal.
        "EnvironmentVariables": {"PATH": service.search_path, "PYTHONFAULTHANDLER": "1"},
        "RunAtLoad": True,
        # After a crash or a kill; not after 'alluvium-like stop', which is a wish.
        "KeepAlive": {"SuccessfulExit": False},
        # Until SIGKILL: the grace and time to finish.
        "ExitTimeOut": service.stop_seconds,
        # The daemon's log is logs/daemon.jsonl; here is what Python says when it ends badly.
        "StandardOutPath": output,
        "StandardErrorPath": output,
    }
    return plistlib.dumps(facts, sort_keys=False).decode()


if __name__ == "__main__":
    sys.stdout.write(example(Kind(sys.argv[1])))
