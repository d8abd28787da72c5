"""What one task may say about itself, in task.toml, front matter or options: the same keys.

Each wrong value is one line of its own; what is right besides counts. The names of agents and tests
are those of config.toml, and are looked up by `problems_with`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationError

from alluvium_like.config.agents import model_problem
from alluvium_like.config.problems import explain, guess, refuse, shown
from alluvium_like.config.tables import Config
from alluvium_like.config.values import Line, Seconds, Table, Text
from alluvium_like.task import TaskSettings

_MOST: Final = 20
_LONGEST_LABEL: Final = 60
_LONGEST_NAME: Final = 200
_LONGEST_SECONDS: Final = 30 * 86400
_CAUTIOUS: Final = ("landing",)
"""What counts where a checkpoint was asked for that cannot be understood."""


def _label(value: str) -> str:
    if not value.strip() or len(value) > _LONGEST_LABEL or "," in value:
        refuse("not a label", f"some text without commas, at most {_LONGEST_LABEL} characters")
    return value


def _name(value: str) -> str:
    if (value and not value.strip()) or len(value) > _LONGEST_NAME:
        refuse("not a name", f"some text, at most {_LONGEST_NAME} characters")
    return value


_Name = Annotated[Line, AfterValidator(_name)]
_Label = Annotated[Line, AfterValidator(_label)]
_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TaskTable(Table):
    """The keys, all optional."""

    title: _Name = Field(default="", description="What people and commits call the task.")
    agent: Line = Field(default="", description="The agent that works on it; empty is [agent].")
    model: Line = Field(
        default="", description="The model that this agent is told to use; not that of a fallback."
    )
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="What is higher starts and lands first."
    )
    timeout_seconds: Seconds = Field(
        default=0,
        ge=0,
        le=_LONGEST_SECONDS,
        description="The longest that one attempt may take; 0 is the agent's own.",
    )
    max_cost: _Dollars = Field(
        default=0, description="What it may cost in US dollars, beside other limits; 0 is no limit."
    )
    max_tokens: int = Field(
        default=0, ge=0, description="How many tokens it may use, beside other limits."
    )
    labels: Annotated[tuple[_Label, ...], Field(strict=False, max_length=_MOST)] = Field(
        default=(), description="Words to find it by."
    )
    project: _Name = Field(default="", description="What it belongs to, for people.")
    tests: Annotated[tuple[Text, ...], Field(strict=False, max_length=_MOST)] = Field(
        default=(),
        description="Names of [[integration.optional_tests]] that its work has to pass too.",
    )
    checkpoints: Annotated[tuple[Literal["landing"], ...], Field(strict=False)] = Field(
        default=(), description='"landing": its work lands only after a person has approved it.'
    )


KEYS: Final = tuple(TaskTable.model_fields)


@dataclass(frozen=True, slots=True)
class Given:
    """Settings as they were written, and where; `problem` is why they could not be read."""

    where: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a task says of itself: what could be taken, and each mistake in one line."""

    agent: str = ""
    priority: int = 0
    settings: TaskSettings = field(default_factory=TaskSettings)
    problems: tuple[str, ...] = ()


NOTHING_WANTED: Final = Wanted()


def check_settings(given: Given, config: Config) -> Wanted:
    """Take settings as far as they are right, and say what is not."""
    right, wrong = dict(given.settings), list(_mistakes(given.settings))
    for key, _ in wrong:
        right.pop(key, None)
    unknown = list(_unknown_names(TaskTable.model_validate(right), config))
    for key, _ in unknown:
        right.pop(key, None)
    if any(key.startswith("checkpoint") for key, _ in wrong):
        right["checkpoints"] = _CAUTIOUS
    table = TaskTable.model_validate(right)
    said = [f"{given.where}: {shown(key)}: {words}" for key, words in (*wrong, *unknown)]
    problems = [*filter(None, [given.problem]), *said]
    if len(problems) > _MOST:
        problems[_MOST:] = [f"and {len(problems) - _MOST} more"]
    values = table.model_dump(exclude={"agent", "priority"})
    return Wanted(table.agent, table.priority, TaskSettings(**values), tuple(problems))


def _mistakes(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key that is unknown or has a wrong value, and what is wrong."""
    try:
        TaskTable.model_validate(dict(settings))
    except ValidationError as error:
        for mistake in error.errors(include_url=False):
            key = str(mistake["loc"][0])
            unknown = mistake["type"] == "extra_forbidden"
            yield key, guess(key, KEYS) if unknown else explain(mistake)


def _unknown_names(table: TaskTable, config: Config) -> Iterator[tuple[str, str]]:
    profiles, tests = config.profiles, [test.name for test in config.integration.optional_tests]
    if table.agent and table.agent not in profiles:
        yield "agent", f"config.toml has no agent '{table.agent}'; it has: {', '.join(profiles)}"
    profile = profiles.get(config.chosen(table.agent))
    if table.model and profile is not None and (said := model_problem(profile, table.model)):
        yield "model", f"{config.chosen(table.agent)}: {said}"
    for name in table.tests:
        if name not in tests:
            known = ", ".join(tests) or "none"
            yield "tests", f"no test is named '{name}' in integration.optional_tests: {known}"
            return
