"""What works on one attempt: a profile of the configuration, ready to be run.

The environment is built from nothing; what is passed on of the daemon's own is remembered as secret
before anything can print it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Adapter, Call
from alluvium_like.agents.command import AttemptPlaces, build_command, build_environment
from alluvium_like.agents.events import Usage
from alluvium_like.agents.record import Record
from alluvium_like.config.agents import Profile
from alluvium_like.execution.process import RunSpec
from alluvium_like.masking import remember

_SECRET_NAME: Final = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Worker:
    """A profile with the places of one attempt and what it is to be told."""

    name: str
    profile: Profile
    adapter: Adapter | None
    places: AttemptPlaces
    call: Call
    continuation: str
    environment: Mapping[str, str]

    @property
    def can_resume(self) -> bool:
        """Tell whether its program can go on with a session."""
        return self.profile.resume and self.adapter is not None and self.adapter.resumes

    def with_session(self, session: str, told: Usage) -> "Worker":
        """Return it with a session to go on with, if its program can; a new one otherwise.

        `told` is what runs of it have told to have used and this worker does not know of yet.
        """
        if not session or not self.can_resume:
            return self
        if session == self.call.session:
            told = self.call.told.plus(told)
        call = replace(self.call, session=session, told=told, prompt=self.continuation)
        return replace(self, call=call)

    def fill(self, spec: RunSpec, record: Record | None) -> RunSpec:
        """Say in a run what is run and what is told to it. Raises OSError."""
        if self.adapter is None:
            return replace(
                spec,
                argv=build_command(self.profile.command_line, self.places),
                environment=dict(self.environment),
                stdin=self.call.prompt.encode(errors="surrogateescape"),
            )
        invocation = self.adapter.invoke(self.call)
        program = self.profile.command_line or (self.adapter.program,)
        return replace(
            spec,
            argv=[*build_command(program, self.places), *invocation.arguments],
            environment={**invocation.environment, **self.environment},
            stdin=invocation.stdin,
            on_line=partial(record.take_line, error=False) if record else None,
            on_error_line=partial(record.take_line, error=True) if record else None,
        )


def adapter_of(profile: Profile) -> Adapter | None:
    """Return the adapter of a profile's preset, None where it is any program."""
    return ADAPTERS[profile.preset] if profile.preset else None


def environment_of(profile: Profile, places: AttemptPlaces) -> dict[str, str]:
    """Return the whole environment of an agent, and remember what in it is secret."""
    environment = build_environment(places, pass_names=profile.passed, source=os.environ)
    remember(environment[name] for name in profile.passed if name in environment)
    remember(value for name, value in profile.fixed.items() if _SECRET_NAME.search(name))
    own = {name: value for name, value in environment.items() if name.startswith("ALLUVIUM_")}
    return {**environment, **profile.fixed, **own}
