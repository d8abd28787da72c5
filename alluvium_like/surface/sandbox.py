"""The box of one task, told in words and opened for a person: `sandbox explain`, `sandbox shell`.

Both make it as an attempt does. The shell works on the task's worktree while there is one, else on
a copy of its branch that is thrown away; `.agent/` is the task's own in either case.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import to_thread

from alluvium_like import messages
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.config import Config, load_config
from alluvium_like.config.agents import Profile
from alluvium_like.errors import AlluviumError
from alluvium_like.gitrepo.runner import Git, Identity, first_line, full_ref
from alluvium_like.gitrepo.workshop import Source, Workshop, make_workshop
from alluvium_like.lock import running_pid
from alluvium_like.sandbox.attached import run_attached
from alluvium_like.sandbox.box import Access, Mount
from alluvium_like.sandbox.cgroup import enforced
from alluvium_like.stages.boxes import Boxes, make_home
from alluvium_like.stages.dispatch.worker import Worker, environment_of, worker_of
from alluvium_like.stages.profiles import Profiles
from alluvium_like.store.reader import StoreReader
from alluvium_like.surface.foreground import run_in_foreground
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

_NETWORKS: Final = {
    "none": "nothing: it has no network, not even a loopback",
    "loopback": "only what it starts itself, on a loopback of its own",
    "allow": "what it starts itself, and the hosts that are named",
    "full": "the network of the machine, with whatever listens on it",
}


@dataclass(frozen=True, slots=True)
class Explained:
    """What a task's agent can do. `why`: why it has no box, empty where it has one."""

    task: str
    agent: str
    why: str
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    reaches: str = ""
    hosts: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return the shape that scripts rely on."""
        return {
            "task": self.task,
            "agent": self.agent,
            "boxed": not self.why,
            "why": self.why or None,
            "writes": list(self.writes),
            "reads": list(self.reads),
            "empty": list(self.empty),
            "reaches": self.reaches,
            "hosts": list(self.hosts),
            "limits": list(self.limits),
        }


@dataclass(frozen=True, slots=True)
class _Place:
    """A task with all that its box is made from."""

    config: Config
    boxes: Boxes
    task: Task
    worker: Worker
    workshop: Workshop


def explain(workspace: Workspace, part: str) -> Explained:
    """Say what the agent of a task can read, write and reach. Raises AlluviumError."""
    place = _place_of(workspace, part)
    agent, profile, box = place.worker.name, place.worker.profile, place.worker.box
    if box is None:
        mode = place.config.sandbox.merged(profile).mode
        why = f'sandbox is "{mode}"' + (f", and {place.boxes.problem}" if mode == "auto" else "")
        return Explained(place.task.id, agent, why)

    def places(*kinds: Access) -> tuple[str, ...]:
        return tuple(_shown(mount) for mount in box.ordered if mount.access in kinds)

    return Explained(
        place.task.id,
        agent,
        "",
        places(Access.WRITE),
        places(Access.READ),
        places(Access.EMPTY),
        _NETWORKS[box.network],
        box.hosts if box.network == "allow" else (),
        tuple(_limits(place.config, profile, running_pid(workspace))),
    )


def open_shell(workspace: Workspace, part: str, command: Sequence[str]) -> int:
    """Run a shell, or a command, in the box of a task; return its exit code. Raises AlluviumError.

    What is refused is told on the standard error as it happens.
    """
    place = _place_of(workspace, part)
    folder = workspace.task(place.task.id)
    if not folder.input.is_dir():
        raise AlluviumError(f"{folder.root}: the folder of the task is gone")
    if command[:1] == [""]:
        raise AlluviumError("the command is empty; without one a shell is opened")
    environment, box = place.worker.call.environment, place.worker.box
    argv = list(command) or [_shell_of(environment)]
    if box is not None:
        make_home(folder, box)

    async def run(tree: Path, mounts: Sequence[Mount]) -> int:
        inside = box.with_mounts(mounts) if box is not None else None
        cwd = place.workshop.tree if box is not None else tree
        return await run_attached(inside, argv, cwd, environment, _tell_refused)

    async def work() -> int:
        if place.workshop.tree.is_dir():
            return await run(place.workshop.tree, ())
        with tempfile.TemporaryDirectory(
            prefix="alluvium-like-shell-", ignore_cleanup_errors=True
        ) as scratch:
            copy = await _copy(workspace, place, Path(scratch).resolve())
            mounts = (
                Mount(place.workshop.tree, Access.WRITE, copy.tree),
                Mount(place.workshop.git_dir, Access.WRITE, copy.git_dir),
            )
            return await run(copy.tree, mounts)

    return run_in_foreground(work)


def _place_of(workspace: Workspace, part: str) -> _Place:
    config = load_config(workspace.config_file)
    with StoreReader(workspace.database) as store:
        task = store.find(part)
    chosen = Profiles(config, parked=()).for_task(task)
    if chosen is None:  # none is parked, so this cannot be
        raise AlluviumError(f"no agent works on {task.id}")
    folder, boxes = workspace.task(task.id), Boxes(workspace)
    workshop = Workshop(
        task.id, workspace.workshops / f"{task.id}.git", workspace.worktrees / task.id
    )
    places = AttemptPlaces(
        task.id, folder.root, folder.agent, workshop.tree, task.branch, folder.prompt
    )
    environment = environment_of(chosen.profile, places)
    worker = worker_of(chosen.name, chosen.profile, places, environment, "", config.prices)
    inside = worker.boxed(boxes, config, folder, workshop, workspace.integration)
    return _Place(config, boxes, task, inside, workshop)


async def _copy(workspace: Workspace, place: _Place, scratch: Path) -> Workshop:
    """Make what an attempt of the task would begin with, to be thrown away."""
    git, store, task = Git("shell"), workspace.integration, place.task
    with StoreReader(workspace.database) as reader:
        base = reader.base_branch()
    at = await git.run("rev-parse", "--verify", full_ref(base), git_dir=store)
    kind = await git.run("rev-parse", "--show-object-format", git_dir=store)
    source = Source(store, first_line(kind), base, first_line(at), ())
    user = Identity(place.config.git.author_name, place.config.git.author_email)
    copy = Workshop(task.id, scratch / "repo.git", scratch / "tree")
    commit = task.head_commit or source.base_commit
    await make_workshop(git, copy, source, commit=commit, branch=task.branch, user=user)
    await to_thread.run_sync(_hang_as, copy, place)
    return copy


def _hang_as(copy: Workshop, place: _Place) -> None:
    """Let a copy say that it is where the box shows it."""
    if place.worker.box is None:
        return
    (copy.tree / ".git").write_text(f"gitdir: {place.workshop.admin}\n")
    (copy.admin / "gitdir").write_text(f"{place.workshop.tree / '.git'}\n")


def _shell_of(environment: Mapping[str, str]) -> str:
    wanted = environment.get("SHELL", "")
    return wanted if wanted.startswith(("/bin/", "/usr/bin/")) and Path(wanted).exists() else "sh"


def _shown(mount: Mount) -> str:
    if mount.place == mount.source:
        return os.fspath(mount.place)
    return f"{mount.place} (from {mount.source})"


def _limits(config: Config, profile: Profile, daemon: int | None) -> list[str]:
    sandbox, kept = config.sandbox.merged(profile), enforced(daemon)
    on_disk = "worktree, repository and .agent/ together"
    limits = (
        (sandbox.max_processes, "processes", kept["processes"]),
        (sandbox.max_memory_bytes, "bytes of memory", kept["memory"]),
        (sandbox.max_cpu_seconds, "s of processor time", "each process"),
        (sandbox.max_file_bytes, "bytes in a file", "each file"),
        (sandbox.max_disk_bytes, "bytes on disk", on_disk),
        (sandbox.max_scratch_bytes, "bytes in a private folder", "each of them, in memory"),
    )
    return [f"{limit:_} {unit}: {by}" for limit, unit, by in limits if limit]


def _tell_refused(host: str, port: int, reason: str) -> None:
    os.write(2, f"{messages.not_let_reach(host, port, reason)}\n".encode())
