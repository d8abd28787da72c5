"""The command line and the environment of an attempt: pure text, nothing is started here.

Only the placeholders named in `AttemptPlaces.values` are filled; every other brace stays as it is,
because agents take JSON on their command lines. The environment is built from nothing, so that
no secret of the daemon's own surroundings reaches an agent or a test without being asked for.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z_]+)\}")  # ${word} is the shell's
_INHERITED = ("PATH", "HOME", "USER", "SHELL", "LANG", "TERM", "TZ", "TMPDIR")
_LOCALE_PREFIX = "LC_"


@dataclass(frozen=True, slots=True)
class AttemptPlaces:
    """Where one attempt works; all paths are absolute, `branch` is without `refs/heads/`."""

    task_id: str
    task_dir: Path
    agent_dir: Path
    worktree: Path
    branch: str
    prompt_file: Path

    def values(self) -> dict[str, str]:
        """Return what the placeholders stand for, by name."""
        return {
            "task_id": self.task_id,
            "task_dir": str(self.task_dir),
            "agent_dir": str(self.agent_dir),
            "worktree": str(self.worktree),
            "branch": self.branch,
            "prompt_file": str(self.prompt_file),
        }


def substitute(template: str, values: Mapping[str, str]) -> str:
    """Replace `{name}` for every name in `values`, in one pass: what is put in stays as it is."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def fill(template: str, places: AttemptPlaces) -> str:
    """Fill the placeholders of an attempt and `{python}`, the interpreter that runs the daemon."""
    return substitute(template, places.values() | {"python": sys.executable})


def build_command(command: Sequence[str], places: AttemptPlaces) -> list[str]:
    """Fill every word of a configured command line; no shell reads the result."""
    return [fill(word, places) for word in command]


def base_environment(source: Mapping[str, str], pass_names: Sequence[str]) -> dict[str, str]:
    """Take from `source` what every program needs, and what the configuration names."""
    return {
        name: value
        for name, value in source.items()
        if name in _INHERITED or name.startswith(_LOCALE_PREFIX) or name in pass_names
    }


def build_environment(
    places: AttemptPlaces, *, pass_names: Sequence[str], source: Mapping[str, str]
) -> dict[str, str]:
    """Return the whole environment of an agent; the attempt's own names win over passed ones."""
    told = {f"ALLUVIUM_{name.upper()}": value for name, value in places.values().items()}
    return base_environment(source, pass_names) | told
