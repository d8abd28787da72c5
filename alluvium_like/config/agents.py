"""The tables that say which agents there are, and how much they may use.

`[agent]` is the default one; `[agents.NAME]` are further ones, chosen by name. A profile is what a
table comes to: every key has its value, and its kind is one of a preset and a command.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from alluvium_like.config.own_agents import (
    CHAT,
    CODEX_TOOL,
    MCP,
    Allowance,
    ChatKeys,
    ToolKeys,
    request_dollars,
    texts_in,
)
from alluvium_like.config.problems import refuse
from alluvium_like.config.sandbox import OwnBox
from alluvium_like.config.values import (
    PLACEHOLDERS,
    CommandLine,
    Dollars,
    Line,
    Seconds,
    Table,
    Texts,
    Variables,
    fixed_in,
    passed_in,
    placeholders_in,
)

DEFAULT_PROFILE: Final = "default"
"""How the profile of `[agent]` itself is called."""
BUILTIN: Final = ("{python}", "-P", "-m", "alluvium_like.agents.builtin")
Preset = Literal[
    "pi", "codex", "claude", "gemini", "opencode", "qwen", "aider", "mini-swe-agent",
    "goose", "cursor-agent", "copilot", "amp", "chat", "mcp",
]  # fmt: skip
PRESETS: Final[tuple[str, ...]] = get_args(Preset)
_Tokens = Annotated[int, Field(ge=0)]


class Limits(Table):
    """How much may be used; 0 is as much as it takes. Reaching one stops the attempt."""

    max_cost: Dollars = Field(
        default=0,
        description="What one task may cost, in US dollars: as the agent reports it, else as "
        "[prices] gives it. 0 sets no limit, as in all of these. Whoever answers or retries a task "
        "that reached one allows it as much again.",
    )
    max_tokens: _Tokens = Field(
        default=0, description="How many tokens one task may use, read and written together."
    )
    max_cost_per_day: Dollars = Field(
        default=0, description="What all tasks may cost in one day (UTC), in US dollars."
    )
    max_tokens_per_day: _Tokens = Field(
        default=0, description="How many tokens all tasks may use in one day (UTC)."
    )

    @property
    def limit_tasks(self) -> bool:
        """Whether a single task has a limit."""
        return bool(self.max_cost or self.max_tokens)

    @property
    def limit_days(self) -> bool:
        """Whether a day has a limit."""
        return bool(self.max_cost_per_day or self.max_tokens_per_day)

    @property
    def limit_costs(self) -> bool:
        """Whether there is a limit in dollars."""
        return bool(self.max_cost or self.max_cost_per_day)


class Program(Table):
    """How an agent is run."""

    preset: Literal["", Preset] = Field(
        default="",
        description="An agent program that is known: how it is called, what its output means. One "
        f"of {', '.join(PRESETS)}. Empty: 'command' is any program.",
    )
    command: CommandLine = Field(
        default=(),
        description="The program and its arguments; no shell reads them, and the prompt is on "
        "stdin. Filled in: "
        + " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        + ". The same values are in the environment, as ALLUVIUM_TASK_ID and so on. With a preset: "
        "what is run in place of its program, before its arguments. Empty without one: the agent "
        "that is built in, which applies patches and calls no model.",
    )
    arguments: Texts = Field(
        default=(), description="Further arguments for the program of a preset."
    )
    model: Line = Field(
        default="", description="The model that a preset's program is told to use. Empty: its own."
    )
    timeout_seconds: Seconds = Field(
        default=3600, gt=0, description="The longest that one attempt may take, in seconds."
    )
    stall_seconds: Seconds = Field(
        default=900,
        ge=0,
        description="How long an attempt may neither print anything nor use the processor before "
        "it is ended and repeated, in seconds. 0 lets it be.",
    )
    retries: int = Field(
        default=1, ge=0, description="How often a failed attempt is repeated before the task fails."
    )
    retry_delay_seconds: Seconds = Field(
        default=2,
        ge=0,
        description="The pause before the first repetition, in seconds; it doubles each time.",
    )
    fallback: Line = Field(
        default="",
        description="The name of the agent that takes over while this one cannot work: its quota "
        "is used up, it cannot log in, its provider does not answer. Empty: tasks wait.",
    )
    resume: bool = Field(
        default=True,
        description="Whether a revision or an answer goes on with the program's own session, where "
        "it can. Else, and with false, it starts afresh with the evidence of earlier attempts.",
    )
    env: Variables = Field(
        default=(),
        description="Further environment variables of the agent: names that are passed on, such as "
        '"OPENAI_API_KEY", and fixed values, such as "NO_COLOR=1". Its environment holds nothing '
        "else but ALLUVIUM_* and the basics: PATH, HOME, USER, SHELL, LANG, LC_*, TERM, TZ, "
        "TMPDIR. What is passed on is masked in all that the daemon writes.",
    )
    output_limit_bytes: int = Field(
        default=10_000_000,
        ge=0,
        description="How much of stdout and of stderr is kept of one attempt, in bytes each.",
    )

    @property
    def command_line(self) -> tuple[str, ...]:
        """The program without a preset's arguments, empty where a preset knows its own."""
        return self.command or (() if self.preset else BUILTIN)

    @property
    def passed(self) -> tuple[str, ...]:
        """The names of the variables that are passed on."""
        return passed_in(self.env)

    @property
    def fixed(self) -> dict[str, str]:
        """The variables that have a value of their own here."""
        return fixed_in(self.env)

    @model_validator(mode="after")
    def _arguments_need_a_preset(self) -> Self:
        if not self.preset and (self.arguments or self.model):
            refuse("arguments or model without a preset", "both in 'command', or a preset")
        return self


class Profile(Limits, OwnBox, ToolKeys, ChatKeys, Program):
    """An agent: what works on a task. It runs in the task's own worktree."""

    @property
    def passed(self) -> tuple[str, ...]:
        """The names of the variables that are passed on."""
        return (*super().passed, *([self.key] if self.key else []))

    @property
    def usual_model(self) -> str:
        """The model that is asked where a task names none, empty for the program's own."""
        return self.model or next(iter(self.models), "")

    @model_validator(mode="after")
    def _keys_are_of_the_preset(self) -> Self:
        for preset, keys in ((CHAT, ChatKeys), (MCP, ToolKeys)):
            if preset == self.preset:
                continue
            for name, info in keys.model_fields.items():
                if getattr(self, name) != info.get_default(call_default_factory=True):
                    refuse(f"'{name}' is for preset = \"{preset}\" only", "leave it out")
        return self

    @model_validator(mode="after")
    def _own_presets_are_whole(self) -> Self:
        own = self.preset in (CHAT, MCP)
        if own and self.arguments:
            refuse(f"'arguments' with preset = \"{self.preset}\"", "leave them out")
        if self.preset == CHAT:
            self._check_chat()
        if self.preset == MCP and not (self.command and self.tool):
            refuse('preset = "mcp" without a server or its tool', "'command' and 'tool'")
        if self.preset == MCP and self.model and (problem := model_problem(self, self.model)):
            refuse(problem, "{model} in 'tool_arguments', or no model")
        return self

    def _check_chat(self) -> None:
        if self.command:
            refuse("'command' with preset = \"chat\"", "leave it out")
        if not (self.base_url and self.models):
            refuse('preset = "chat" without an address or its models', "'base_url' and 'models'")
        if self.model and (problem := model_problem(self, self.model)):
            refuse(problem, ", ".join(self.models))
        if self.min_budget > self.max_budget:
            refuse("'min_budget' is more than 'max_budget'", "at most as much")
        if self.max_budget and not request_dollars(self):
            refuse("with intensity low and no 'min_budget' nothing may be spent", "'min_budget'")


class Agent(Profile):
    """What works on a task, where the task names no other. It runs in the task's own worktree."""

    profile: Line = Field(
        default="",
        description="The name of one of the [agents.NAME] below that is to be used instead of what "
        "this table says. Empty: this table.",
    )


class Budget(Limits):
    """What all agents together may use."""


class Price(Table):
    """What a model costs, in US dollars for a million tokens."""

    input: Dollars = Field(default=0, description="Tokens that are read.")
    cached: Dollars | None = Field(
        default=None, description="Those of them that the provider had in its cache."
    )
    output: Dollars = Field(default=0, description="Tokens that are written.")


def model_problem(profile: Profile, model: str) -> str:
    """Say why an agent cannot be told to use a model, empty where it can."""
    if profile.preset == CHAT:
        if model in profile.models:
            return ""
        return f"the model '{model}' is not allowed; 'models' names {', '.join(profile.models)}"
    if profile.preset == MCP and (profile.tool_arguments or profile.tool != CODEX_TOOL):
        given = [
            name for text in texts_in(profile.tool_arguments) for name in placeholders_in(text)
        ]
        return "" if "model" in given else "its tool is not told of a model"
    return "" if profile.preset else "a command of one's own is not told of a model"


def price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Return what a model costs: the longest name counts with which its own name begins."""
    spellings = (model, model.rpartition("/")[2])
    names = [name for name in prices if any(each.startswith(name) for each in spellings)]
    return prices[max(names, key=len)] if names else None


def allowance_of(profile: Profile, prices: Mapping[str, Price]) -> Allowance | None:
    """Return what one request of an agent may cost, None where nothing limits it."""
    price = price_of(profile.usual_model, prices)
    if not profile.max_budget or price is None:
        return None
    return Allowance(request_dollars(profile), price.input, price.output)
