"""doctor's look at [sandbox]: whether there can be a box, what keeps its limits, what is wrong."""

import os
from collections.abc import Iterator
from pathlib import Path

from alluvium_like.config import Config
from alluvium_like.config.agents import DEFAULT_PROFILE, Profile
from alluvium_like.lock import running_pid
from alluvium_like.sandbox.bubblewrap import INSTALL, find_problem
from alluvium_like.sandbox.cgroup import enforced
from alluvium_like.stages.boxes import modes_of
from alluvium_like.surface.machine import Check, Status
from alluvium_like.workspace import Workspace


def look_at_sandbox(workspace: Workspace, config: Config) -> Iterator[Check]:
    """Yield what is to be said of the boxes in which agents and tests run."""
    modes = modes_of(config)
    if modes == {"none"}:
        message = "none, as configured: agents and tests run with the rights of the daemon"
        yield Check("sandbox", Status.OK, message)
        return
    if problem := find_problem():
        refused = "bubblewrap" in modes
        message = f"agents and tests run without a box: {problem}"
        yield Check("sandbox", Status.FAIL if refused else Status.WARN, message, INSTALL)
        return
    unboxed = [name for name, each in config.profiles.items() if _mode(config, each) == "none"]
    beside = f"; without one, as configured: {', '.join(unboxed)}" if unboxed else ""
    yield Check("sandbox", Status.OK, f"bubblewrap: agents and tests run in a box{beside}")
    daemon = running_pid(workspace)
    whose = "" if daemon else " (as this terminal has it; a service or a scope may do better)"
    kept = "; ".join(f"{limit}: {by}" for limit, by in enforced(daemon).items())
    yield Check("sandbox limits", Status.OK, f"{kept}; files and processor: each process{whose}")
    yield from _paths(config)
    yield from _reached(config)


def _mode(config: Config, profile: Profile) -> str:
    return config.sandbox.merged(profile).mode


def _paths(config: Config) -> Iterator[Check]:
    boxes = [config.sandbox.merged(profile) for profile in config.profiles.values()]
    named = dict.fromkeys(path for box in boxes for path in (*box.readable, *box.writable))
    # Path.exists would raise where the daemon may not look.
    missing = [path for path in named if not os.path.exists(Path(path).expanduser())]  # noqa: PTH110
    if missing:
        message = f"not there: {', '.join(missing)}"
        yield Check("sandbox paths", Status.WARN, message, "mend 'readable' and 'writable'")


def _reached(config: Config) -> Iterator[Check]:
    """Warn of programs that can reach nobody: a model has to be asked somewhere."""
    for name, profile in config.profiles.items():
        box = config.sandbox.merged(profile)
        other = name == DEFAULT_PROFILE and config.agent.profile
        if other or profile.preset or not profile.command or box.mode == "none":
            continue
        if box.network == "allow" and not box.hosts:
            message = "its command reaches no host: nobody knows where its model is"
            fix = "name what it needs in 'hosts', or set 'network' to \"full\""
            yield Check(f"agent {name} network", Status.WARN, message, fix)
