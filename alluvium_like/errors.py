"""Errors that a person reads: what happened, where, and what to do about it.

Everything that is expected is a value (see `lifecycle`); these are for what stops a command.
The command line prints the message as one line and exits with `exit_code`.
"""

import os
from collections.abc import Iterator


class AlluviumError(Exception):
    """Something that a person can mend; the message is the whole story."""

    exit_code = 1


class UsageError(AlluviumError):
    """The command was called with arguments that cannot be right."""

    exit_code = 2


class ConfigError(AlluviumError):
    """config.toml cannot be used; one line a mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class WorkspaceError(AlluviumError):
    """The workspace is missing, damaged, or on a file system that cannot keep the promises."""


class StoreError(AlluviumError):
    """The store cannot be opened or trusted."""


class StoreUnavailable(StoreError):
    """The store cannot be used now: it is locked, its disk is full or in trouble; try again."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class StoreDamaged(StoreError):
    """The store holds what cannot be right; it is left as it is, and nobody goes on with it."""


class PlaceLost(WorkspaceError):
    """A file or folder of the daemon's own was taken away, or closed to it, while it works."""


class StoreMoved(StoreUnavailable, PlaceLost):
    """The store is not where it was opened: nothing may be written to what lies there now."""


class StaleTransition(AlluviumError):
    """The task was no longer in the state that the caller expected; somebody else was first."""


class RepositoryError(AlluviumError):
    """A Git repository is missing or not in a state that the daemon can work with."""


class SetupFailed(AlluviumError):
    """A worktree cannot be made ready; the message says why, in one line."""


class GitFailed(AlluviumError):
    """A git command of the daemon's own failed."""

    def __init__(self, argv: list[str], code: int, stderr: str) -> None:
        last = stderr.strip().splitlines()[-1:] or ["no message"]
        super().__init__(f"git {' '.join(argv)} failed with {code}: {last[0]}")
        self.argv = argv
        self.code = code
        self.stderr = stderr


class SandboxMissing(AlluviumError):
    """[sandbox] asks for a box, and none can be made here."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f'[sandbox].mode asks for "bubblewrap", and {problem}; with "auto" agents run without '
            "a box where there can be none"
        )


class DaemonRunning(AlluviumError):
    """The daemon holds the workspace's lock."""


class DaemonUnreachable(AlluviumError):
    """The daemon runs but does not answer on its socket."""


class DaemonSilent(DaemonUnreachable):
    """The daemon was reached and said nothing in time: it hangs, or is stopped."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, or what a group of errors holds."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def is_foreseen(error: BaseException) -> bool:
    """Tell whether an error is one of ours or the system's: its reason is then the whole story."""
    return all(isinstance(leaf, AlluviumError | OSError) for leaf in leaves(error))


def reason_of(error: BaseException) -> str:
    """Say in one line what happened: of the system's errors in words, with the paths."""
    texts = dict.fromkeys(" ".join(_words(leaf).split()) for leaf in leaves(error))
    return "; ".join(texts)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        names = (error.filename, error.filename2)
        paths = [os.fsdecode(name) for name in names if isinstance(name, str | bytes)]
        return ": ".join([error.strerror, *([" -> ".join(paths)] if paths else [])])
    return str(error) if isinstance(error, AlluviumError | OSError) else repr(error)
