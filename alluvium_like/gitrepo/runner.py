"""The one runner of git: a clean environment, no hooks, no helpers, always a deadline.

The environment and the options were chosen against planted hooks, filters, drivers and includes:
nothing that a repository's files say is executed. `owner=True` is for the landing's last command
alone: it uses the owner's own configuration, else LFS files and line endings come out wrong.
Many small questions go to a git that stays alive (`ask`): a process for each costs a millisecond.
"""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
from anyio import to_thread

from alluvium_like.errors import GitFailed, RepositoryError
from alluvium_like.execution.marker import MARKER_VARIABLE, RunKind, RunMarker
from alluvium_like.execution.quick import Completed, run_quick
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.journal import RefJournal
from alluvium_like.gitrepo.locks import birth_of, clear_lock, lock_in_the_way
from alluvium_like.gitrepo.talk import Answer, Pipe, Talk

_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "fetch.fsckObjects=true",
    "submodule.recurse=false",
    "diff.ignoreSubmodules=all",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "core.fsync=all,-index",
    "advice.detachedHead=false",
)
_CLEAN = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
_DEADLINE_SECONDS = 600.0
_QUIET = frozenset({0})
_MOST_TALKS = 12
MOST_LOCKS = 8
"""A git that is killed leaves no more at once: of HEAD, the index, a branch, ORIG_HEAD."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an author or committer is, and when (git's raw date form)."""

    name: str
    email: str
    date: str = ""


@dataclass(frozen=True, slots=True)
class Git:
    """Runs git; `workspace_id` marks the processes so that a restart finds survivors.

    Repositories in the folder `state` are ours alone: what a git that was killed there has locked
    is unlocked when it stops another one. `refs` is told of what is written to refs there.
    """

    workspace_id: str
    source: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    state: Path | None = None
    talks: dict[tuple[Path, tuple[str, ...]], Talk] = field(
        default_factory=dict, compare=False, repr=False
    )
    at_work: dict[anyio.Event, Path] = field(default_factory=dict, compare=False, repr=False)
    refs: RefJournal = field(default_factory=RefJournal, compare=False, repr=False)

    async def run(
        self,
        *args: str,
        git_dir: Path | None = None,
        work_tree: Path | None = None,
        index: Path | None = None,
        cwd: Path | None = None,
        author: Identity | None = None,
        committer: Identity | None = None,
        stdin: bytes | None = None,
        accept: frozenset[int] = _QUIET,
        owner: bool = False,
        surroundings: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run one git command to its end; `surroundings` is another environment, whole.

        Raises GitFailed on an exit code not in `accept`.
        """
        argv = _argv(git_dir, work_tree, owner)
        environment = self._environment(owner) if surroundings is None else dict(surroundings)
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        for role, who in (("AUTHOR", author), ("COMMITTER", committer)):
            if who is not None:
                environment |= {f"GIT_{role}_NAME": who.name, f"GIT_{role}_EMAIL": who.email}
                if who.date:
                    environment[f"GIT_{role}_DATE"] = who.date

        async def command() -> Completed:
            with step(f"git.{_subcommand(args)}"):
                done = await run_quick(
                    [*argv, *args],
                    cwd=cwd or work_tree or git_dir,
                    environment=environment,
                    stdin=stdin,
                    timeout_seconds=_DEADLINE_SECONDS,
                    marker=RunMarker(self.workspace_id, RunKind.GIT, args[0], 0),
                )
            if done.code not in accept:
                raise GitFailed(list(args), done.code, done.stderr.decode(errors="replace"))
            return done

        try:
            return await self._unhindered(command, git_dir)
        except FileNotFoundError as error:
            raise RepositoryError(
                f"git cannot be run: {error.strerror}: {error.filename}"
            ) from error

    async def ask(
        self, args: tuple[str, ...], dialogue: Callable[[Pipe], Awaitable[Answer]], git_dir: Path
    ) -> Answer:
        """Have a dialogue with a git that stays alive between questions.

        Raises GitFailed when it ends instead of answering.
        """
        key = (git_dir, args)
        talk = self.talks.pop(key, None)
        if talk is None:
            await self._make_room()
            marker = RunMarker(self.workspace_id, RunKind.GIT, args[0], 0)
            talk = self.talks.get(key) or Talk(
                [*_argv(git_dir), *args],
                name=list(args),
                cwd=git_dir,
                environment={**self._environment(False), MARKER_VARIABLE: str(marker)},
                timeout_seconds=_DEADLINE_SECONDS,
            )
        self.talks[key] = talk
        return await self._unhindered(partial(talk.ask, dialogue), git_dir)

    async def close(self, git_dir: Path) -> None:
        """End the processes that stay alive for one repository."""
        for key in [key for key in self.talks if key[0] == git_dir]:
            await self.talks.pop(key).close()

    async def _unhindered(
        self, command: Callable[[], Awaitable[Answer]], git_dir: Path | None
    ) -> Answer:
        """Run a command, and once more when a lock was in its way that nobody holds any more."""
        if git_dir is None or self.state is None or not git_dir.is_relative_to(self.state):
            return await command()
        for _ in range(MOST_LOCKS):
            try:
                with self._registered(git_dir):
                    return await command()
            except GitFailed as error:
                lock = lock_in_the_way(error.stderr)
                if lock is None or not lock.is_relative_to(git_dir):
                    raise
                await self._unlock(lock, git_dir)
        return await command()

    @contextmanager
    def _registered(self, git_dir: Path) -> Iterator[None]:
        over = anyio.Event()
        self.at_work[over] = git_dir
        try:
            yield
        finally:
            del self.at_work[over]
            over.set()

    async def _unlock(self, lock: Path, git_dir: Path) -> None:
        """Take a lock away that is still the same when all that could hold it have ended."""
        seen = await to_thread.run_sync(birth_of, lock)
        for over in [over for over, place in self.at_work.items() if place == git_dir]:
            await over.wait()
        if seen is not None and seen == await to_thread.run_sync(birth_of, lock):
            await to_thread.run_sync(clear_lock, lock)

    async def _make_room(self) -> None:
        """End the one that nobody has asked for longest, when there are many."""
        idle = [key for key, talk in self.talks.items() if talk.is_idle]
        if len(self.talks) >= _MOST_TALKS and idle:
            await self.talks.pop(idle[0]).close()

    def _environment(self, owner: bool) -> dict[str, str]:
        kept = ("PATH", "HOME", "TMPDIR", "XDG_CONFIG_HOME", "USER", "LANG")
        environment = {name: self.source[name] for name in kept if name in self.source}
        if owner:
            return environment | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        return environment | _CLEAN


def _argv(git_dir: Path | None, work_tree: Path | None = None, owner: bool = False) -> list[str]:
    argv = ["git"]
    if git_dir is not None:
        argv.append(f"--git-dir={git_dir}")
    if work_tree is not None:
        argv.append(f"--work-tree={work_tree}")
    if not owner:
        for option in _OPTIONS:
            argv += ["-c", option]
    return argv


def _subcommand(args: tuple[str, ...]) -> str:
    """Return which command of git it is, behind the options that come before it."""
    return next(word for before, word in pairwise(("", *args)) if word[0] != "-" and before != "-c")


def null_split(data: bytes) -> list[str]:
    """Split NUL-terminated output; file names keep their bytes by surrogate escapes."""
    return [part.decode(errors="surrogateescape") for part in data.split(b"\0") if part]


def first_line(done: Completed) -> str:
    """Return the first line of a command's output."""
    return done.stdout.decode(errors="surrogateescape").split("\n", 1)[0]


def full_ref(branch: str) -> str:
    """Return the full name of a branch."""
    return f"refs/heads/{branch}"
