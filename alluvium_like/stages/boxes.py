"""Which box what agents write is run in: made from the configuration, the task and the machine.

An attempt sees its worktree, its repository and its `.agent/`, where its home folder lies, too:
what a program keeps there is the task's. It may read its `input/` and the objects that it borrows.
Tests and set-ups see their tree. Nothing else of the workspace is there, nor of the person's home
but what is named and what an agent needs to log in.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import Adapter
from alluvium_like.clock import monotonic
from alluvium_like.config import Config
from alluvium_like.config.agents import Profile
from alluvium_like.config.sandbox import Mode, Network, Sandbox
from alluvium_like.errors import SandboxMissing
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.guarded import exists, open_folder, own_path, place
from alluvium_like.sandbox.box import Access, Box, Limits, Mount, system_mounts
from alluvium_like.sandbox.bubblewrap import around, find_problem
from alluvium_like.sandbox.programs import Doubt, own_mounts, program_mounts, tool_mounts
from alluvium_like.workspace import TaskFolder, Workspace

_TMP: Final = "/tmp"  # noqa: S108 - the private one of the box
_OF_THE_KERNEL: Final = (("dev",), ("proc",), ("sys",))
"""The first folder of paths such as /dev/null, which every box has its own of."""
_BETWEEN_WORDS: Final = re.compile(r"[\s;|&<>()'\"=`]+")
_LOOK_AGAIN_SECONDS: Final = 60.0
_CACHES: Final = (".cache", ".npm", ".pnpm-store", ".yarn", ".cargo", ".gradle", ".m2", "go")
HOME_PARTS: Final = ("sessions", "home")
"""Where the home folder of a task's agents lies, below `.agent/`."""


class Boxes:
    """Makes boxes for one workspace. `problem`: why none can be made here, empty where they can."""

    def __init__(self, workspace: Workspace) -> None:
        """Look what can be done here. Blocks for some 30 ms."""
        self._workspace = workspace
        self._environment = dict(os.environ)
        git = program_mounts(["git"], self._environment, Path(os.sep))
        self._private = (workspace.state, *workspace.folders)
        """Where agents write, and what is nobody's to read."""
        self._programs = (*own_mounts(), *git)
        self._system, self._looked = system_mounts(), monotonic()
        self.problem = find_problem()

    def require(self, config: Config) -> None:
        """Raise SandboxMissing where a box is asked for and there can be none."""
        if self.problem and "bubblewrap" in modes_of(config):
            raise SandboxMissing(self.problem)

    def lacking(self, config: Config) -> str:
        """Return why something is run without a box that would have one, empty where nothing is."""
        return self.problem if "auto" in modes_of(config) else ""

    def holds(self, config: Config, profile: Profile | None = None) -> bool:
        """Tell whether all that an attempt or a test of a candidate runs is in a box."""
        modes = {config.sandbox.mode}
        if profile is not None:
            modes.add(config.sandbox.merged(profile).mode)
        return "none" not in modes and not self.problem

    def boxed(self, mode: Mode) -> bool:
        """Tell whether something is run in a box. Raises SandboxMissing."""
        if mode == "bubblewrap" and self.problem:
            raise SandboxMissing(self.problem)
        return mode != "none" and not self.problem

    def of_attempt(
        self,
        config: Config,
        profile: Profile,
        adapter: Adapter | None,
        folder: TaskFolder,
        workshop: Workshop,
        borrowed: Path,
        environment: Mapping[str, str],
    ) -> Box | None:
        """Return the box of an attempt, None where it has none. Its program is not in it yet.

        `borrowed`: the repository whose objects its own borrows. Blocks. Raises SandboxMissing.
        """
        sandbox = config.sandbox.merged(profile)
        if not self.boxed(sandbox.mode):
            return None
        home = folder.agent.joinpath(*HOME_PARTS)
        changes = {"HOME": str(home), "TMPDIR": _TMP}
        hosts = sandbox.hosts
        mounts = [
            *self._base(config, sandbox, home, environment),
            Mount.of(folder.input),
            Mount.of(folder.agent, Access.WRITE),
            *_of_workshop(workshop, borrowed),
        ]
        if adapter is not None:
            needed = adapter.hosts(environment, profile.arguments, profile.model)
            hosts = tuple(dict.fromkeys((*hosts, *needed)))
            mounts += _of_person(adapter, environment, home)
            if environment.get(adapter.folder_variable):
                changes[adapter.folder_variable] = str(home / adapter.own_folder)
            changes |= adapter.proxy_environment if sandbox.network == "allow" else {}
        return Box(tuple(mounts), sandbox.network, hosts, limits_of(sandbox), changes)

    def with_program(
        self,
        config: Config,
        box: Box,
        program: str,
        named: Sequence[str],
        environment: Mapping[str, str],
    ) -> Box:
        """Return a box that shows a program, that of a person's own words, and the paths in these.

        What would show the workspace, or all of a home folder, is not shown for being named.
        """
        cwd = Path(environment.get("ALLUVIUM_WORKTREE") or self._workspace.root)
        words = [word for word in named[1:] if self._may_be_shown(Path(word))]
        lines, doubt = ([program], [*named[:1], *words]), self._doubt(config, box.written)
        return box.with_needed(
            each for line in lines for each in program_mounts(line, environment, cwd, doubt)
        )

    def _with_commands(self, config: Config, box: Box, commands: Sequence[str], tree: Path) -> Box:
        """Return a box that shows what the absolute paths in shell commands lead to."""
        words = {word for each in commands for word in _BETWEEN_WORDS.split(each)}
        paths = [word for word in sorted(words) if self._may_be_shown(Path(word))]
        doubt = self._doubt(config, box.written)
        return box.with_needed(
            each
            for path in paths
            for each in program_mounts([path], self._environment, tree, doubt)
        )

    def of_tree(
        self,
        config: Config,
        workshop: Workshop,
        borrowed: Path,
        network: Network,
        commands: Sequence[str],
    ) -> Box | None:
        """Return the box in which commands of the owner's run on a tree, None without one.

        The absolute paths that they name are shown as an agent's program is.
        """
        sandbox = config.sandbox
        if not self.boxed(sandbox.mode):
            return None
        home = Path(self._environment.get("HOME") or os.sep)
        if home == Path(os.sep):
            home = Path("/nonexistent")
        mounts = (
            Mount.of(home, Access.EMPTY),
            *self._base(config, sandbox, home, self._environment),
            *_of_workshop(workshop, borrowed),
        )
        box = Box(mounts, network, sandbox.hosts, limits_of(sandbox), {"TMPDIR": _TMP})
        return self._with_commands(config, box, commands, workshop.tree)

    def reader_of(
        self, config: Config, profile: Profile, workshop: Workshop, borrowed: Path
    ) -> list[str]:
        """Return what a workshop's git is run with for a fetch: a box that shows the workshop, and
        what it borrows, and nothing else of the workspace. Empty where there is none.

        It has one where the agent had, or where agents have one by rule. Raises SandboxMissing.
        """
        if not any(map(self.boxed, (config.sandbox.merged(profile).mode, config.sandbox.mode))):
            return []
        mounts = (*self._machine, Mount.of(workshop.git_dir), Mount.of(borrowed / "objects"))
        return around(Box(mounts, "loopback"), workshop.git_dir)

    @property
    def _machine(self) -> tuple[Mount, ...]:
        """What every box shows of the machine; a secret that was made meanwhile is hidden, too."""
        if monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            self._system, self._looked = system_mounts(), monotonic()
        return (*self._system, *self._programs)

    def _base(
        self, config: Config, sandbox: Sandbox, home: Path, environment: Mapping[str, str]
    ) -> Iterator[Mount]:
        """Yield what every box shows: the machine, this program, tools, what the owner names."""
        yield from self._machine
        yield from tool_mounts(environment, self._doubt(config))
        yield from _named(sandbox.readable, Access.READ, home)
        yield from _named(sandbox.writable, Access.WRITE, home)
        yield Mount.of(self._workspace.root, Access.HIDDEN)

    def _doubt(self, config: Config, written: Sequence[Path] = ()) -> Doubt:
        """Return where agents have a say, whichever of them: what one writes, another is shown."""
        boxes = [config.sandbox.merged(each) for each in config.profiles.values()]
        named = {Path(text).expanduser() for box in boxes for text in box.writable}
        real = {Path(os.path.realpath(path)) for path in named}
        landed = config.repo.at(self._workspace.root)
        return Doubt((*self._private, *written, *sorted(named | real)), landed)

    def _may_be_shown(self, path: Path) -> bool:
        if not path.is_absolute() or path.parts[1:2] in _OF_THE_KERNEL:
            return False
        home = Path(os.path.realpath(self._environment.get("HOME") or os.sep))
        real = Path(os.path.realpath(path))
        return not any(each.is_relative_to(real) for each in (self._workspace.root, home))


def modes_of(config: Config) -> set[Mode]:
    """Return the modes that are asked for."""
    profiles = [config.profiles[name] for name in config.profiles]
    return {config.sandbox.mode, *(config.sandbox.merged(each).mode for each in profiles)}


def limits_of(sandbox: Sandbox) -> Limits:
    """Return what one box may use."""
    return Limits(
        sandbox.max_processes,
        sandbox.max_memory_bytes,
        sandbox.max_cpu_seconds,
        sandbox.max_file_bytes,
        sandbox.max_scratch_bytes,
    )


def _of_workshop(workshop: Workshop, borrowed: Path) -> Iterator[Mount]:
    yield Mount.of(workshop.tree, Access.WRITE)
    yield Mount.of(workshop.git_dir, Access.WRITE)
    yield Mount.of(borrowed / "objects")


def _named(paths: Sequence[str], access: Access, home: Path) -> Iterator[Mount]:
    """Yield what the owner names; what is in a home folder is shown in that of the box."""
    for text in paths:
        source = Path(text).expanduser()
        inside = text.startswith("~")
        place = home / Path(text).relative_to("~") if inside else source
        if os.path.exists(source):  # noqa: PTH110 - no, too, where nobody may look
            real = Path(os.path.realpath(source))
            yield from (Mount(each, access, real) for each in dict.fromkeys((place, source)))


def _of_person(adapter: Adapter, environment: Mapping[str, str], home: Path) -> Iterator[Mount]:
    """Yield what lets an agent log in, and its settings, which it may only read."""
    for source, name in adapter.files_of_person(environment):
        login = name in adapter.login_files and name not in adapter.settings_files
        access = Access.WRITE if login else Access.READ
        yield Mount(home / name, access, Path(os.path.realpath(source)))


def drop_caches(folder: TaskFolder, trash: Path) -> None:
    """Take what agents only keep to be faster out of their home folder: it may be gigabytes a task.

    Blocks; raises OSError.
    """
    with own_path(folder.agent, *HOME_PARTS) as home, open_folder(trash) as target:
        for name in _CACHES:
            if exists(home, name):
                new_name = f"{name}-{secrets.token_hex(8)}"
                with step("cache.drop"):
                    os.rename(name, new_name, src_dir_fd=home, dst_dir_fd=target)


def make_home(folder: TaskFolder, box: Box) -> None:
    """Make the home folder of a task's agents, with a place for whatever is shown in it.

    What an earlier attempt may have planted there is not followed. Blocks; raises OSError.
    """
    home = folder.agent.joinpath(*HOME_PARTS)
    with own_path(folder.agent, *HOME_PARTS):
        pass
    for mount in box.mounts:
        if mount.place == home or not mount.place.is_relative_to(home):
            continue
        *around, name = mount.place.relative_to(home).parts
        if mount.source.is_dir():
            around.append(name)
        with own_path(folder.agent, *HOME_PARTS, *around) as opened:
            if not mount.source.is_dir():
                place(opened, name, "")
