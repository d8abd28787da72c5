"""What `agents` shows: the agents of config.toml, and what was found of them on this machine.

Nothing is asked over a network: whether one can log in is seen from variables and files alone.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Adapter, Login
from alluvium_like.agents.command import base_environment
from alluvium_like.clock import utc_now
from alluvium_like.config import Config, load_config
from alluvium_like.config.agents import Profile
from alluvium_like.errors import UsageError
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunSpec
from alluvium_like.stages.dispatch.worker import adapter_of
from alluvium_like.store.reader import StoreReader
from alluvium_like.surface.foreground import run_in_foreground, run_program
from alluvium_like.task import Parked
from alluvium_like.workspace import Workspace

_VERSION_SECONDS: Final = 30.0
_MOST_BYTES: Final = 65_536
_AT_ONCE: Final = 8
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
    chosen = config.chosen("")
    with StoreReader(workspace.database, older=True) as store:
        parked = {row.agent: row for row in store.parked() if row.until > utc_now()}
    found = [
        (_look(name, profile, chosen=name == chosen, parked=parked.get(name)), profile)
        for name, profile in config.profiles.items()
    ]
    used = {profile.preset for profile in config.profiles.values()}
    # Not validated: some presets need more than their name to be of use.
    unused = [Profile.model_construct(preset=name) for name in ADAPTERS if name not in used]
    found += [(_look(each.preset, each, configured=False), each) for each in unused]
    return run_in_foreground(partial(_with_versions, found))


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


def _look(
    name: str,
    profile: Profile,
    *,
    configured: bool = True,
    chosen: bool = False,
    parked: Parked | None = None,
) -> Agent:
    adapter = adapter_of(profile)
    environment = environment_seen(profile)
    program = program_of(profile)
    path = shutil.which(program, path=environment.get("PATH")) or ""
    return Agent(
        name=name,
        configured=configured,
        chosen=chosen,
        preset=profile.preset,
        proven=adapter is None or adapter.proven,
        program=program,
        path=path,
        version="",
        login=adapter.login(environment) if adapter else Login(None, "any program"),
        model=profile.model,
        fallback=profile.fallback,
        parked=parked,
        install=adapter.install if adapter else "",
    )


async def _with_versions(found: Sequence[tuple[Agent, Profile]]) -> list[Agent]:
    """Ask the programs that are there for their versions, some at a time."""
    agents = [agent for agent, _ in found]
    at_once = anyio.Semaphore(_AT_ONCE)

    async def ask(number: int, profile: Profile) -> None:
        agent, adapter = agents[number], adapter_of(profile)
        if adapter is not None and adapter.version_arguments and agent.path:
            async with at_once:
                version = await _version(adapter, profile, agent.path)
            agents[number] = replace(agent, version=version)

    async with anyio.create_task_group() as tasks:
        for number, (_, profile) in enumerate(found):
            tasks.start_soon(ask, number, profile)
    return agents


async def _version(adapter: Adapter, profile: Profile, path: str) -> str:
    """Return what a program says of its version, empty where it says nothing in time.

    Whatever it leaves running is ended.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="alluvium-like-version-") as name:
            folder = Path(name)
            spec = RunSpec(
                argv=[path, *profile.command_line[1:], *adapter.version_arguments],
                cwd=Path.cwd(),
                environment=environment_seen(profile),
                marker=RunMarker(folder.name, RunKind.ATTEMPT, profile.preset, 0),
                stdout_path=folder / "stdout",
                stderr_path=folder / "stderr",
                output_limit_bytes=_MOST_BYTES,
                timeout_seconds=_VERSION_SECONDS,
                grace_seconds=0,
            )
            await run_program(spec)
            said = spec.stdout_path.read_bytes() or spec.stderr_path.read_bytes()
    except OSError:
        return ""
    found = _VERSION.search(said.decode(errors="replace"))
    return found[0].rstrip(".") if found else ""
