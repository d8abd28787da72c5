"""What `agents` shows: the agents of config.toml, and what was found of them on this machine.

Nothing is asked over a network: whether one can log in is seen from variables and files alone.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Final

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Adapter, Login
from alluvium_like.agents.command import base_environment
from alluvium_like.clock import utc_now
from alluvium_like.config import Config, load_config
from alluvium_like.config.agents import Profile
from alluvium_like.errors import UsageError
from alluvium_like.stages.dispatch.worker import adapter_of
from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Parked
from alluvium_like.workspace import Workspace

_VERSION_SECONDS: Final = 30
_VERSION: Final = re.compile(r"\d+\.\d+[\w.+-]*")


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent of the configuration, or a preset that it does not use (not `configured`).

    `path` and `version` are empty where nothing was found.
    """

    name: str
    configured: bool
    chosen: bool
    preset: str
    proven: bool
    program: str
    path: str
    version: str
    login: Login
    model: str
    fallback: str
    parked: Parked | None
    install: str

    def document(self) -> dict[str, object]:
        """Return the shape that scripts rely on."""
        return {
            **asdict(self),
            "login": {"ready": self.login.ready, "words": self.login.words},
            "parked": asdict(self.parked) if self.parked else None,
        }


def read_agents(workspace: Workspace) -> list[Agent]:
    """Return every agent of the configuration, and the presets that none of them uses.

    Raises ConfigError or StoreError.
    """
    config = load_config(workspace.config_file)
    with StoreReader(workspace.database, older=True) as store:
        parked = {row.agent: row for row in store.parked() if row.until > utc_now()}
    with ThreadPoolExecutor() as pool:
        looks = [
            pool.submit(_look, config, name, profile, parked.get(name))
            for name, profile in config.profiles.items()
        ]
        used = {profile.preset for profile in config.profiles.values()}
        unused = [preset for preset in ADAPTERS if preset not in used]
        looks += [pool.submit(_look_at_preset, preset) for preset in unused]
        return [look.result() for look in looks]


def find_profile(config: Config, name: str) -> Profile:
    """Return the profile of that name. Raises UsageError."""
    if name not in config.profiles:
        known = ", ".join(config.profiles)
        raise UsageError(f"config.toml has no agent '{name}'; it has: {known}")
    return config.profiles[name]


def environment_seen(profile: Profile) -> dict[str, str]:
    """Return the environment of an agent as far as no attempt is needed to know it."""
    return base_environment(os.environ, profile.passed) | profile.fixed


def program_of(profile: Profile) -> str:
    """Return the program that a profile starts."""
    adapter = adapter_of(profile)
    command = profile.command_line or ((adapter.program,) if adapter else ())
    return command[0].replace("{python}", sys.executable)


def _look(config: Config, name: str, profile: Profile, parked: Parked | None) -> Agent:
    adapter = adapter_of(profile)
    environment = environment_seen(profile)
    program = program_of(profile)
    path = shutil.which(program, path=environment.get("PATH")) or ""
    return Agent(
        name=name,
        configured=True,
        chosen=name == config.chosen(""),
        preset=profile.preset,
        proven=adapter is None or adapter.proven,
        program=program,
        path=path,
        version=_version(adapter, profile, path, environment) if adapter and path else "",
        login=adapter.login(environment) if adapter else Login(None, "any program"),
        model=profile.model,
        fallback=profile.fallback,
        parked=parked,
        install=adapter.install if adapter else "",
    )


def _look_at_preset(preset: str) -> Agent:
    profile = Profile.model_validate({"preset": preset})
    found = _look(Config(), preset, profile, None)
    return replace(found, configured=False, chosen=False)


def _version(adapter: Adapter, profile: Profile, path: str, environment: Mapping[str, str]) -> str:
    """Return what a program says of its version, empty where it says nothing in time."""
    command = [path, *profile.command_line[1:], *adapter.version_arguments]
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(done.stdout or done.stderr)
    return found[0].rstrip(".") if found else ""
