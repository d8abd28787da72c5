"""The table [setup] of config.toml: what a worktree holds besides what the repository has."""

from pathlib import PurePosixPath
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from alluvium_like.config.integration import TestCommand
from alluvium_like.config.problems import refuse
from alluvium_like.config.values import (
    Seconds,
    Table,
    Text,
    Texts,
    Variables,
    fixed_in,
    passed_in,
)

LOCK_FILES: Final = (
    *("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock"),
    *("uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "pyproject.toml"),
    *("requirements.txt", "requirements-*.txt"),
    *("Cargo.lock", "go.sum", "Gemfile.lock", "composer.lock", "mix.lock"),
    # What they are made from: a change that the lock file lacks must not be hidden by what is kept.
    *("package.json", "pnpm-workspace.yaml", ".npmrc", "Pipfile", "setup.py", "setup.cfg"),
    *("Cargo.toml", "go.mod", "Gemfile", "*.gemspec", "composer.json", "mix.exs"),
)
_NOT_PLAIN: Final = frozenset("*?[]\\!")
_LAST_PORT: Final = 65535


def _inside(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or value.startswith("~") or ".." in path.parts or not path.parts:
        refuse("not a path inside the repository's folder", "such as .env or config/local.toml")
    if any(part.lower() == ".git" for part in path.parts):
        refuse("in .git, which is Git's own", "a path such as .env")
    if not _NOT_PLAIN.isdisjoint(value) or not value.isprintable() or value != value.strip():
        refuse("holds a character that patterns are made of", "a plain path such as .env")
    return str(path)


def _apart(paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        parents = {str(parent) for parent in PurePosixPath(path).parents}
        if paths.count(path) > 1 or not parents.isdisjoint(paths):
            refuse(f"names {path} twice", "each path once, none inside another")
    return paths


Inside = Annotated[Text, AfterValidator(_inside)]
Insides = Annotated[tuple[Inside, ...], Field(strict=False), AfterValidator(_apart)]


class Setup(Table):
    """What makes a worktree ready: before an agent starts in it, and before a candidate's tests."""

    copy_: Insides = Field(
        default=(),
        alias="copy",
        description="Files and folders, relative to the repository's folder, that are copied from "
        'there into each worktree, such as ".env". None of them ever lands. What their lines '
        "assign, as in NAME=value, is masked in all that the daemon writes, but for plain words "
        "whose NAME has no KEY, TOKEN, SECRET or PASS in it. What links in folders lead to is "
        "copied in their place.",
    )
    run: Annotated[tuple[TestCommand, ...], Field(strict=False)] = Field(
        default=(),
        description='Run in each worktree, such as "npm ci". Each item is a shell command line, or '
        'a table such as {name = "packages", command = "npm ci", timeout_seconds = 120}. A command '
        "that fails keeps the attempt from starting; before tests it makes them fail.",
    )
    timeout_seconds: Seconds = Field(
        default=600,
        gt=0,
        description="How long one of them may take where it does not say so itself, in seconds.",
    )
    keep: Insides = Field(
        default=(),
        description='Folders that the commands make, such as "node_modules" or ".venv". They are '
        "kept, and copied in instead of running the commands again, as long as the commands and "
        "the lock files are the same. None of them ever lands.",
    )
    lock_files: Texts = Field(
        default=LOCK_FILES,
        description="The names of the files, in any folder, whose contents decide what the "
        "commands make: lock files, and what those are made from. * and ? stand for any "
        "characters.",
    )
    env: Variables = Field(
        default=(),
        description="Further environment variables of the commands, as in [agent]: names that are "
        'passed on, and "NAME=value".',
    )
    first_port: int = Field(
        default=20_000,
        ge=1024,
        le=_LAST_PORT,
        description="Every attempt and every run of tests has a range of ports of its own, between "
        "this one and last_port. ALLUVIUM_PORT_BASE is its first.",
    )
    last_port: int = Field(default=29_999, ge=1024, le=_LAST_PORT, description="See first_port.")
    ports_per_task: int = Field(
        default=10, ge=0, le=1000, description="How many ports a range has. 0 gives none."
    )
    lfs_pointers: bool = Field(
        default=False,
        description="Files that are kept by Git LFS are pointers in a worktree. With false no "
        "attempt begins where there are any; with true agents work with the pointers.",
    )

    @property
    def private(self) -> tuple[str, ...]:
        """The paths that never land."""
        return tuple(dict.fromkeys((*self.copy_, *self.keep)))

    @property
    def passed(self) -> tuple[str, ...]:
        """The names of the variables that are passed on."""
        return passed_in(self.env)

    @property
    def fixed(self) -> dict[str, str]:
        """The variables that have a value of their own here."""
        return fixed_in(self.env)

    @property
    def commands(self) -> tuple[TestCommand, ...]:
        """The commands, each with its deadline."""
        return tuple(
            each
            if "timeout_seconds" in each.model_fields_set
            else each.model_copy(update={"timeout_seconds": self.timeout_seconds})
            for each in self.run
        )

    @model_validator(mode="after")
    def _ranges_fit(self) -> Self:
        if self.last_port - self.first_port + 1 < self.ports_per_task:
            refuse("last_port leaves no room for a range of ports", "first_port + ports_per_task")
        return self
