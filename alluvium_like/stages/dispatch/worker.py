"""What works on one attempt: a profile of the configuration, ready to be run.

The environment is built from nothing; what is passed on of the daemon's own is remembered as secret
at the daemon's start, before anything can print it.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Adapter, Call
from alluvium_like.agents.command import (
    AttemptPlaces,
    base_environment,
    build_command,
    build_environment,
)
from alluvium_like.agents.events import Usage
from alluvium_like.agents.record import Record
from alluvium_like.config import Config
from alluvium_like.config.agents import Price, Profile, allowance_of
from alluvium_like.execution.process import RunSpec
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.masking import remember
from alluvium_like.sandbox.box import Box
from alluvium_like.stages.boxes import Boxes
from alluvium_like.workspace import TaskFolder

_SECRET_NAME: Final = re.compile(
    r"key|token|secret|passw|credential|auth(?!ors?(_|$))", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Worker:
    """A profile with the places of one attempt and what it is to be told."""

    name: str
    profile: Profile
    adapter: Adapter | None
    places: AttemptPlaces
    call: Call
    continuation: str
    box: Box | None = None

    @property
    def told(self) -> dict[str, str]:
        """What the attempt is told in its environment: ALLUVIUM_* alone."""
        told = self.call.environment.items()
        return {name: value for name, value in told if name.startswith("ALLUVIUM_")}

    @property
    def named(self) -> list[str]:
        """The words of its command that a person has written."""
        return build_command((*self.profile.command, *self.profile.arguments), self.places)

    @property
    def program(self) -> str:
        """The program that is run."""
        if self.adapter is None:
            return build_command(self.profile.command_line, self.places)[0]
        return self.adapter.program_line(self.call)[0]

    @property
    def can_resume(self) -> bool:
        """Tell whether its program can go on with a session."""
        return self.profile.resume and self.adapter is not None and self.adapter.resumes

    @property
    def costs_at_end(self) -> bool:
        """Tell whether its program says what it costs, but not before its end."""
        return self.adapter is not None and self.adapter.costs_at_end

    def boxed(
        self, boxes: Boxes, config: Config, folder: TaskFolder, workshop: Workshop, borrowed: Path
    ) -> "Worker":
        """Return it in the box of its attempt, or as it is where that has none; see `Boxes`."""
        environment = self.call.environment
        box = boxes.of_attempt(
            config, self.profile, self.adapter, folder, workshop, borrowed, environment
        )
        if box is None:
            return self
        environment = {**environment, **box.environment}
        inside = replace(self, call=replace(self.call, environment=environment, boxed=True))
        return replace(
            inside, box=boxes.with_program(config, box, inside.program, inside.named, environment)
        )

    def with_session(self, session: str, told: Usage) -> "Worker":
        """Return it with a session to go on with, if its program can; a new one otherwise.

        `told` is what earlier runs with it have told to have used.
        """
        if not session or not self.can_resume:
            return self
        call = replace(self.call, session=session, told=told, prompt=self.continuation)
        return replace(self, call=call)

    def record(self, transcript: Path, on_usage: Callable[[Usage], None]) -> Record | None:
        """Return what takes in what its program tells, None where nobody can read that."""
        if self.adapter is None:
            return None
        return Record(self.adapter.reader(self.call), transcript, on_usage)

    def fill(self, spec: RunSpec, record: Record | None) -> RunSpec:
        """Say in a run what is run and what is told to it. Raises OSError."""
        if self.adapter is None:
            return replace(
                spec,
                argv=build_command(self.profile.command_line, self.places),
                environment=dict(self.call.environment),
                stdin=self.call.stdin,
            )
        invocation = self.adapter.invoke(self.call)
        return replace(
            spec,
            argv=[*self.adapter.program_line(self.call), *invocation.arguments],
            environment={**invocation.environment, **self.call.environment},
            stdin=invocation.stdin,
            on_line=partial(record.take_line, error=False) if record else None,
            on_error_line=partial(record.take_line, error=True) if record else None,
        )


def worker_of(
    name: str,
    profile: Profile,
    places: AttemptPlaces,
    environment: Mapping[str, str],
    prompt: str,
    prices: Mapping[str, Price],
    continuation: str = "",
) -> Worker:
    """Make a profile ready for one attempt. `continuation`: what a session is told that goes on."""
    call = Call(
        worktree=places.worktree,
        prompt=prompt,
        prompt_file=places.prompt_file,
        home=places.agent_dir / "sessions",
        arguments=profile.arguments,
        model=profile.model,
        environment=environment,
        command=tuple(build_command(profile.command, places)),
        allowance=allowance_of(profile, prices),
    )
    return Worker(name, profile, adapter_of(profile), places, call, continuation)


def adapter_of(profile: Profile) -> Adapter | None:
    """Return the adapter of a profile's preset, None where it is any program."""
    return ADAPTERS[profile.preset].of(profile) if profile.preset else None


def remember_secrets(profiles: Iterable[Profile]) -> None:
    """Mask from now on what agents are given: all that is passed on, and fixed keys by name."""
    for profile in profiles:
        remember_variables(profile.passed, profile.fixed, profile.key)


def remember_variables(passed: Iterable[str], fixed: Mapping[str, str], key: str = "") -> None:
    """Mask from now on what variables hold: those passed on, and keys among those with a value.

    What every program is given, such as the user's name, is no secret under another name either.
    """
    known = {"", *base_environment(os.environ, ()).values()}
    remember({os.environ.get(name, "") for name in passed} - known)
    remember(compress(fixed.values(), (_SECRET_NAME.search(n) or n == key for n in fixed)))


def environment_of(profile: Profile, places: AttemptPlaces) -> dict[str, str]:
    """Return the whole environment of an agent, and remember what in it is secret."""
    remember_secrets([profile])
    environment = build_environment(places, pass_names=profile.passed, source=os.environ)
    own = {name: value for name, value in environment.items() if name.startswith("ALLUVIUM_")}
    return {**environment, **profile.fixed, **own}
