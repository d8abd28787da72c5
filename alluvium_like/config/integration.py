"""The table [integration] of config.toml, with the paths that are protected by default."""

import os
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from alluvium_like.config.problems import refuse
from alluvium_like.config.values import AT_START, Branch, Patterns, Remote, Seconds, Table, Text

_TEST_SECONDS: Final = 1800
PROTECTED: Final = (
    # what runs on other machines
    *(".github/", ".gitlab/", ".gitlab-ci.yml", ".circleci/", ".buildkite/", ".travis.yml"),
    *("azure-pipelines.yml", "bitbucket-pipelines.yml", "Jenkinsfile", ".woodpecker/", ".ci/"),
    # what runs in Git, or changes what it reads and writes
    *(".githooks/", ".husky/", "lefthook.yml", ".pre-commit-config.yaml"),
    *(".gitattributes", ".gitmodules"),
    # what agents run and are allowed
    *(".claude/", ".mcp.json", ".codex/", ".gemini/", ".qwen/", ".cursor/", ".opencode/"),
    *("opencode.json", ".aider.conf.yml", ".vscode/mcp.json"),
)


class TestCommand(Table):
    """One test of a candidate: a shell command line with its name and deadline."""

    __test__: ClassVar[bool] = False  # pytest would collect it for its name

    name: Text
    command: Text
    timeout_seconds: Seconds = Field(default=_TEST_SECONDS, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_line(cls, given: object) -> object:
        """Take a bare command line as a table; without a name, a test is called by its command."""
        table = {"command": given} if isinstance(given, str) else given
        if not isinstance(table, dict):
            refuse("not a command", "a shell command line, or a table with command and name")
        command = table.get("command")
        lines = command.strip().splitlines() if isinstance(command, str) else []
        return {"name": lines[0] if lines else "test", **table}


def _named(tests: tuple[TestCommand, ...]) -> tuple[TestCommand, ...]:
    names = [test.name for test in tests]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        refuse(f"names {twice} twice", "a name of its own for each")
    return tests


class Integration(Table):
    """How finished work gets onto the base branch: in order, merged and tested before it lands."""

    enabled: bool = Field(
        default=True, description="With false, finished work waits and nothing is merged."
    )
    base_branch: Annotated[Branch, AT_START] = Field(
        default="",
        description="The branch that work starts from and lands on. Empty: the branch that the "
        "repository had checked out at init, kept from then on.",
    )
    run_tests: Annotated[tuple[TestCommand, ...], Field(strict=False)] = Field(
        default=(),
        description="Run on every candidate before it lands, in a tree of its own. Each item is "
        'a shell command line, or a table such as {name = "unit", command = "make test", '
        f"timeout_seconds = 600}}. A test may take {_TEST_SECONDS} seconds where nothing else "
        "is said.",
    )
    optional_tests: Annotated[
        tuple[TestCommand, ...], Field(strict=False), AfterValidator(_named)
    ] = Field(
        default=(),
        description="Tests that only the work of tasks has to pass that name them ('tests' in "
        "their settings), beside run_tests. Each is a table with a name of its own.",
    )
    max_revision_rounds: int = Field(
        default=2,
        ge=0,
        description="How often the agent is asked to mend a conflict or a failed test of its "
        "work before a person is asked.",
    )
    merge_style: Literal["squash", "merge"] = Field(
        default="squash",
        description='"squash" lands each task as one commit, "merge" keeps its commits under a '
        "merge commit.",
    )
    parallel_tests: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="How many candidates are tested at the same time, each in a tree of its own; "
        "0 is half the processors. A candidate that passes proves those before it too.",
    )
    strict: bool = Field(
        default=False,
        description="With true, every single commit is tested before it lands, and not only the "
        "last of several that land together.",
    )
    protected_paths: Patterns = Field(
        default=PROTECTED,
        description="Work that touches one of these waits for a person ('approve' or 'reject'): "
        "they decide what runs, when, and with which rights. Written as in .gitignore, without "
        "exceptions and backslashes; upper and lower case are the same. An empty list protects "
        "nothing.",
    )
    push: Remote = Field(
        default="",
        description='The remote of the repository, such as "origin", to which the base branch is '
        "pushed after every landing, and from which the work of others is taken up. Empty: none.",
    )

    @property
    def test_slots(self) -> int:
        """How many candidates may be under test at the same time."""
        return self.parallel_tests or max(1, (os.cpu_count() or 2) // 2)
