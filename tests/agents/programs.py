"""The agent programs that are tested: how a person would configure each, and what is special.

A row says how its profile is written for a model that answers at an address, and where a program
shows a trouble in another way than most. What is said here is asserted: where it becomes untrue, a
test fails.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import install
from model_server.script import Case, Script

from alluvium_like.lifecycle import AgentOutcome, Ending

KEY: Final = "sk-dummy-0123456789-not-a-real-key"
"""What every program logs in with. It must not be found in anything that the daemon writes."""
NOTHING: Final = "nothing"
"""The trouble that needs no server: nobody listens."""
IN_THE_GATE: Final = ("codex", "claude", "pi", "mini")
CHOICE_VARIABLE: Final = "ALLUVIUM_AGENTS"
CODEX_SETTINGS: Final = """\
model_provider = "scripted"
[model_providers.scripted]
name = "scripted"
base_url = "@URL@/v1"
env_key = "SCRIPTED_KEY"
wire_api = "responses"
supports_websockets = false
request_max_retries = 2
stream_max_retries = 2
"""
_OPENCODE: Final = (
    '{"provider":{"scripted":{"npm":"@ai-sdk/openai-compatible","options":'
    '{"baseURL":"@URL@/v1","apiKey":"{env:OPENAI_API_KEY}"},"models":{"model":{}}}}}'
)
_PI_MODELS: Final = (
    '{"providers":{"scripted":{"baseUrl":"@URL@/v1","api":"openai-completions",'
    '"apiKey":"SCRIPTED_KEY","models":[{"id":"model"}]}}}'
)


@dataclass(frozen=True)
class Shows:
    """How a program shows a trouble: the outcome, how its run ends, and why that is not usual."""

    outcome: AgentOutcome
    ending: Ending = Ending.EXITED
    why: str = ""


USUAL: Final[Mapping[str, Shows]] = {
    NOTHING: Shows(AgentOutcome.UNREACHABLE),
    Case.UNAUTHORIZED: Shows(AgentOutcome.AUTH),
    Case.QUOTA: Shows(AgentOutcome.QUOTA),
    Case.BROKEN: Shows(AgentOutcome.CRASHED),
    Case.ENDLESS: Shows(AgentOutcome.TIMED_OUT, Ending.TIMED_OUT),
}


@dataclass(frozen=True)
class Program:
    """One program. In its texts `@URL@` is the model's address, `@FOLDER@` a folder of its own.

    `key`: the variable that is passed on to it. `environment`: further ones, `files`: what a person
    has written into the folder. `cut_after`: the deadline in seconds where a run has to be ended.
    `last`: the command by which the model says that it is through. `tells_tools`: it tells of each
    tool that it uses; codex was seen to leave out commands that end at once.
    """

    name: str
    preset: str
    key: str
    model: str = ""
    arguments: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    cut_after: float = 40
    last: tuple[str, ...] = ()
    resumes: bool = True
    edits_by_text: bool = False
    tells_tools: bool = True
    special: Mapping[str, Shows] = field(default_factory=dict)

    def shows(self, trouble: str) -> Shows:
        """Return how it shows a trouble."""
        return self.special.get(trouble, USUAL[trouble])

    def profile(self, url: str, folder: Path, **more: object) -> dict[str, Any]:
        """Return its table of config.toml, and write the files that a person would."""

        def told(text: str) -> str:
            return text.replace("@URL@", url).replace("@FOLDER@", str(folder))

        for name, text in self.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(told(text))
        return {
            "preset": self.preset,
            "command": [str(install.program(self.name))],
            "model": self.model,
            "arguments": [told(each) for each in self.arguments],
            "env": [self.key, *(told(each) for each in self.environment)],
            "retries": 0,
            "retry_delay_seconds": 0,
            **more,
        }

    def script(self, name: str, earlier: str = "", **trouble: Any) -> Script:
        """Return what the model does to write a file; `earlier` is one that it wrote before.

        What came before is a part of the conversation for a program that goes on with its session.
        """
        if self.edits_by_text:
            return Script(text=_edit(name), **trouble)
        before = (_write(earlier),) if earlier and self.resumes else ()
        return Script(commands=(*before, _write(name), *self.last), **trouble)


def _write(name: str) -> str:
    return f"echo hello > {name}; git add {name}; git commit -qm 'Add {name}'"


def _edit(name: str) -> str:
    return f"Here it is.\n\n{name}\n```\n<<<<<<< SEARCH\n=======\nhello\n>>>>>>> REPLACE\n```\n"


_WAITS: Final = "it waits in silence until the quota is back, and is ended after two minutes"

PROGRAMS: Final = (
    Program(
        "codex",
        preset="codex",
        key="SCRIPTED_KEY",
        model="model",
        environment=("CODEX_HOME=@FOLDER@",),
        files={"config.toml": CODEX_SETTINGS},
        cut_after=30,
        tells_tools=False,
    ),
    Program(
        "claude",
        preset="claude",
        key="CLAUDE_CODE_OAUTH_TOKEN",
        model="claude-sonnet-4-5",
        environment=("ANTHROPIC_BASE_URL=@URL@",),
    ),
    Program(
        "pi",
        preset="pi",
        key="SCRIPTED_KEY",
        model="model",
        arguments=("--provider", "scripted"),
        environment=("PI_CODING_AGENT_DIR=@FOLDER@",),
        files={
            "models.json": _PI_MODELS,
            "settings.json": '{"retry":{"maxRetries":1,"baseDelayMs":1000,"provider":'
            '{"maxRetries":0}}}',
        },
    ),
    Program(
        "mini",
        preset="mini-swe-agent",
        key="OPENAI_API_KEY",
        model="openai/model",
        environment=("OPENAI_API_BASE=@URL@/v1",),
        cut_after=60,
        last=("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT",),
        resumes=False,
    ),
    Program(
        "gemini",
        preset="gemini",
        key="GEMINI_API_KEY",
        model="gemini-2.5-pro",
        environment=("GOOGLE_GEMINI_BASE_URL=@URL@",),
        special={
            Case.ENDLESS: Shows(
                AgentOutcome.CRASHED, why="it ends such a stream itself: it looks for repetitions"
            )
        },
    ),
    Program(
        "opencode",
        preset="opencode",
        key="OPENAI_API_KEY",
        model="scripted/model",
        environment=(f"OPENCODE_CONFIG_CONTENT={_OPENCODE}",),
        cut_after=120,
        special={
            Case.QUOTA: Shows(AgentOutcome.QUOTA, Ending.STALLED, _WAITS),
        },
    ),
    Program(
        "qwen",
        preset="qwen",
        key="OPENAI_API_KEY",
        model="model",
        environment=("OPENAI_BASE_URL=@URL@/v1",),
        cut_after=60,
    ),
    Program(
        "aider",
        preset="aider",
        key="OPENAI_API_KEY",
        model="openai/model",
        arguments=("--edit-format", "diff"),
        environment=("OPENAI_API_BASE=@URL@/v1",),
        cut_after=90,
        edits_by_text=True,
    ),
)


def chosen() -> tuple[Program, ...]:
    """Return the programs to test: those of the gate, all, or those that the variable names."""
    choice = os.environ.get(CHOICE_VARIABLE, "")
    if choice == "all":
        return PROGRAMS
    names = choice.split(",") if choice else IN_THE_GATE
    assert set(names) <= set(install.TOOLS), f"{CHOICE_VARIABLE} names no program: {choice}"
    return tuple(each for each in PROGRAMS if each.name in names)
