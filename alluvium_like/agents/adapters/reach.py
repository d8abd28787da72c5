"""What an agent program needs of the world: hosts for its model, the folder of its settings.

It is derived as the program does it, from the environment it is given, the person's arguments and
the person's files; never from the worktree, where an agent could name itself a host. Most of these
files lie in folders that it has to write: ask for hosts before an agent runs, not after. Files that
are wrong or not there change nothing. All of it blocks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from alluvium_like.agents.adapters.providers import hosts_at, local_hosts, urls_among

_XDG: Final = {
    ".config": "XDG_CONFIG_HOME",
    ".local/share": "XDG_DATA_HOME",
    ".local/state": "XDG_STATE_HOME",
    ".cache": "XDG_CACHE_HOME",
}


class Reach:
    """The part of an adapter that a box is made from."""

    own_folder: ClassVar[str] = ""
    """The folder below the home folder that holds its settings, and mostly its login and state."""
    folder_variable: ClassVar[str] = ""
    """Variable that names another folder in its place."""
    vendor_hosts: ClassVar[tuple[str, ...]] = ()
    """Hosts that it asks where nothing else is said."""
    proxy_environment: ClassVar[Mapping[str, str]] = {}
    """Variables that it needs to go through a proxy, beside HTTPS_PROXY and the like."""

    def hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str] = (), model: str = ""
    ) -> tuple[str, ...]:
        """Return the hosts that it needs for its model, as config.toml would name them.

        `arguments` are the person's; an address among them counts. Blocks.
        """
        found = (*self.model_hosts(environment, arguments), *local_hosts(environment, model))
        return tuple(dict.fromkeys((*found, *hosts_at(urls_among(arguments)))))

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Return what `hosts` does, without the addresses among the arguments."""
        return self.vendor_hosts

    def folder(self, environment: Mapping[str, str]) -> Path:
        """Return the folder of its settings: its own, or what its variable names."""
        home = Path(environment.get("HOME", ""))
        if told := environment.get(self.folder_variable):
            return home / told[2:] if told.startswith("~/") else Path(told)
        return below_home(environment, self.own_folder)


def below_home(environment: Mapping[str, str], path: str) -> Path:
    """Return a path below the home folder, or where the variables for its kind put it."""
    for usual, variable in _XDG.items():
        other = environment.get(variable, "")
        if path.startswith(f"{usual}/") and Path(other).is_absolute():
            return Path(other) / path.removeprefix(f"{usual}/")
    return Path(environment.get("HOME", ""), path)
