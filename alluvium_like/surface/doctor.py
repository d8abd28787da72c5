"""doctor: looks at everything the daemon stands on, and says how to mend what is wrong.

A broken environment gives failed checks, never an exception. The owner's repository is only read.
Without a valid configuration, what depends on it is left out.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import anyio

from alluvium_like.config import Config, load_config
from alluvium_like.config.agents import DEFAULT_PROFILE, Profile
from alluvium_like.errors import AlluviumError, ConfigError, RepositoryError
from alluvium_like.gitrepo.checkouts import unfinished_in
from alluvium_like.gitrepo.landing import Owner
from alluvium_like.gitrepo.owner import OwnerRepository, inspect_repository
from alluvium_like.gitrepo.remote import Unreachable, open_remote
from alluvium_like.gitrepo.runner import Git
from alluvium_like.stages.dispatch.worker import adapter_of
from alluvium_like.surface import machine
from alluvium_like.surface.agents import environment_seen, program_of
from alluvium_like.surface.machine import Check, Status
from alluvium_like.surface.sandbox_checks import look_at_sandbox
from alluvium_like.surface.setup_checks import look_at_setup
from alluvium_like.workspace import Workspace

Look = Callable[[], Iterable[Check]]


def run_doctor(workspace: Workspace) -> list[Check]:
    """Look at the workspace and what it stands on; never raises for what is broken there."""
    looks: list[tuple[str, Look]] = [
        ("python", machine.python),
        ("git", machine.git),
        ("workspace", partial(_folders, workspace)),
        ("rename", partial(machine.rename, workspace)),
        ("fsync", partial(machine.sync, workspace)),
        ("file system", partial(machine.file_system, workspace)),
        ("disk", partial(machine.disk, workspace)),
        ("inotify", partial(machine.inotify, workspace)),
    ]
    try:
        config = load_config(workspace.config_file)
    except ConfigError as error:
        fix = "mend config.toml; the agent and the repository were not looked at"
        checks = [Check("config", Status.FAIL, str(error), fix)]
    else:
        there = workspace.config_file.exists()
        message = "valid" if there else "there is no config.toml: all defaults"
        checks = [Check("config", Status.OK, message)]
        looks += [
            ("agents", partial(_agents, config)),
            ("repository", partial(_repository, workspace, config)),
            ("setup", partial(look_at_setup, workspace, config)),
            ("sandbox", partial(look_at_sandbox, workspace, config)),
        ]
    for name, look in looks:
        checks += _carefully(name, look)
    return checks


def _carefully(name: str, look: Look) -> list[Check]:
    try:
        return list(look())
    except (OSError, AlluviumError) as error:
        fix = "mend what the message names, then run doctor again"
        return [Check(name, Status.FAIL, str(error), fix)]


def _folders(workspace: Workspace) -> Iterator[Check]:
    folders = (
        workspace.inbox,
        workspace.tasks,
        workspace.worktrees,
        workspace.quarantine,
        workspace.logs,
        workspace.state,
    )
    missing = [folder.name for folder in folders if not folder.is_dir()]
    locked = [
        folder.name
        for folder in folders
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK)
    ]
    if missing:
        fix = f"run 'alluvium-like init {workspace.root}'; it keeps what is there"
        yield Check("workspace", Status.FAIL, f"not there: {', '.join(missing)}", fix)
    if locked:
        fix = "give the folders to the user who runs the daemon"
        yield Check("workspace", Status.FAIL, f"not writable: {', '.join(locked)}", fix)
    if not missing and not locked:
        yield Check("workspace", Status.OK, f"{workspace.root} is writable")


def _agents(config: Config) -> Iterator[Check]:
    for name, profile in config.profiles.items():
        if name == DEFAULT_PROFILE and config.agent.profile:
            continue  # [agent] only says which one
        yield from _agent(name, profile)
        limited = any(each.limit_tasks or each.limit_days for each in (profile, config.budget))
        if limited and profile.command and not profile.preset:
            message = "its command tells nothing of what it uses, so no budget can stop it"
            fix = "use a preset; 'timeout_seconds' stops any program"
            yield Check(f"agent {name} budget", Status.WARN, message, fix)


def _agent(name: str, profile: Profile) -> Iterator[Check]:
    title = f"agent {name}"
    word, adapter = program_of(profile), adapter_of(profile)
    if "/" in word and not word.startswith("/"):
        # Only the task's worktree or folder can tell.
        yield Check(title, Status.OK, f"{word} is looked up when a task runs")
    elif found := shutil.which(word, path=environment_seen(profile).get("PATH")):
        yield Check(title, Status.OK, found)
    else:
        fix = "install it, set PATH for the daemon, or change the agent's command"
        install = f" ({adapter.install})" if adapter else ""
        yield Check(title, Status.FAIL, f"{word} is not a program on PATH{install}", fix)
    if adapter is not None:
        login = adapter.login(environment_seen(profile))
        if login.ready is False:
            yield Check(f"{title} login", Status.WARN, "cannot log in", login.words)
    missing = [each for each in profile.passed if each not in os.environ and each != profile.key]
    if missing:
        fix = "set them where the daemon is started"
        message = f"not set here: {', '.join(missing)}"
        yield Check(f"{title} variables", Status.WARN, message, fix)


def _repository(workspace: Workspace, config: Config) -> Iterator[Check]:
    place = config.repo.at(workspace.root)
    try:
        found = inspect_repository(place, workspace, config.integration.base_branch)
    except RepositoryError as error:
        fix = "mend the repository, or change [repo].path or [integration].base_branch"
        yield Check("repository", Status.FAIL, str(error), fix)
        return
    yield Check("repository", Status.OK, f"{found.path}, base branch {found.base_branch}")
    if under_way := unfinished_in(found.git_dir):
        message = f"unfinished: {', '.join(under_way)}; landing may have to wait"
        fix = f"finish or abort it in {found.path}"
        yield Check("unfinished work", Status.WARN, message, fix)
    yield from _locks(found)
    if found.partial:
        message = "a partial clone: what is missing of its history cannot be reverted or packed"
        yield Check("history", Status.WARN, message, "clone it without --filter")
    yield from _remote(found, config.integration.push)


def _locks(found: OwnerRepository) -> Iterator[Check]:
    held = [name for name in ("index.lock", "HEAD.lock") if (found.git_dir / name).exists()]
    if held:
        fix = f"when no git command runs in {found.path}, remove it from {found.git_dir}"
        yield Check("git locks", Status.WARN, f"{', '.join(held)} stops git from writing", fix)


def _remote(found: OwnerRepository, name: str) -> Iterator[Check]:
    """Look whether the remote is there and its URL usable; nobody is spoken to."""
    if not name:
        return
    owner = Owner(found.git_dir, found.base_branch, found.path)
    remote = anyio.run(open_remote, Git("doctor"), owner, found.git_dir, name, found.path)
    if isinstance(remote, Unreachable):
        fix = "mend the remote with 'git remote', or change [integration].push"
        yield Check("remote", Status.FAIL, remote.reason, fix)
    else:
        yield Check("remote", Status.OK, f"{remote.title} is at {remote.shown_url}")
