"""What a table and one value of config.toml may be; strict about what could only fail later."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from alluvium_like.config.problems import refuse

_OWN: Final = "ALLUVIUM_"
AT_START: Final = "counts at the next start of the daemon"
PLACEHOLDERS: Final = (
    "task_id",
    "task_dir",
    "agent_dir",
    "worktree",
    "branch",
    "prompt_file",
    "python",
)

_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)\}", re.ASCII)  # ${word} is the shell's
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PROFILE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.ASCII)
_HALF = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REMOTE = re.compile(r"[\w][\w./-]*", re.ASCII)
_NOT_IN_A_BRANCH = re.compile(r"^[-/.]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|/\.|[/.]$|\.lock(/|$)")
_NOT_IN_A_PATTERN = re.compile(r"\\|\[\^|\[[^\]]*(\[:|/|$)")


class Table(BaseModel):
    """A table: frozen, with no other keys than its own, and nothing of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _text(value: str) -> str:
    if not value.strip():
        refuse("empty", "some text")
    if "\0" in value:
        refuse("holds a NUL character", "text without it")
    return value


def _line(value: str) -> str:
    if _CONTROL.search(value):
        refuse("not on one line", "text without control characters")
    if _HALF.search(value):
        refuse("not UTF-8 text", "whole characters")
    return value


def _argument(value: str) -> str:
    if "\0" in value:
        refuse("holds a NUL character", "text without it")
    check_placeholders(value, PLACEHOLDERS)
    return value


def check_placeholders(value: str, names: Sequence[str]) -> None:
    """Refuse a text with a placeholder that is none of `names`."""
    for word in placeholders_in(value):
        if word not in names:
            close = get_close_matches(word, names, n=1)
            hint = f"; did you mean '{{{close[0]}}}'?" if close else ""
            known = " ".join(f"{{{name}}}" for name in names)
            refuse(f"unknown placeholder '{{{word}}}'{hint}", known)


def placeholders_in(value: str) -> list[str]:
    """Return the names of the placeholders in a text."""
    return _PLACEHOLDER.findall(value)


def passed_in(variables: Sequence[str]) -> tuple[str, ...]:
    """Return the names of those that are passed on."""
    return tuple(item for item in variables if "=" not in item)


def fixed_in(variables: Sequence[str]) -> dict[str, str]:
    """Return those that have a value of their own."""
    pairs = (item.partition("=") for item in variables if "=" in item)
    return {name: value for name, _, value in pairs}


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and not value[0].strip():
        refuse("empty", "a program and its arguments")
    return value


def _variable(value: str) -> str:
    name, _, fixed = value.partition("=")
    if not _VARIABLE.fullmatch(name) or "\0" in fixed:
        refuse("not a variable", 'a name such as "OPENAI_API_KEY", or "NAME=value"')
    if name.startswith(_OWN):
        refuse(f"begins with {_OWN}, which the daemon sets itself", "another name")
    return value


def _variable_name(value: str) -> str:
    if value and not _VARIABLE.fullmatch(value):
        refuse("not the name of a variable", 'a name such as "OPENAI_API_KEY", never the key')
    return _variable(value) if value else value


def _variables(value: tuple[str, ...]) -> tuple[str, ...]:
    names = [item.partition("=")[0] for item in value]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        refuse(f"names {twice} twice", "each variable once, passed on or with a value")
    return value


def _profile_name(value: str) -> str:
    if not _PROFILE_NAME.fullmatch(value) or value == "default":
        refuse("not a name for an agent", "small letters, digits and dashes, but not 'default'")
    return value


def _branch(value: str) -> str:
    if value.startswith("refs/"):
        refuse("not the short name of a branch", "the name without 'refs/heads/'")
    if value == "HEAD" or _NOT_IN_A_BRANCH.search(value):
        refuse("not a name that a branch can have", "a name such as main, or nothing")
    return value


def _identity(value: str) -> str:
    if not value.strip(" .,:;\"'") or re.search(r"[<>\x00-\x1f\x7f]", value):
        refuse("not usable in a commit", "some text on one line without < and >")
    return value


def _place(value: str) -> str:
    try:
        Path(value).expanduser()
    except RuntimeError:
        refuse("names the home of an unknown user", "a path from the workspace, or an absolute one")
    return value


def _pattern(value: str) -> str:
    if value.startswith("!"):
        refuse("an exception", "patterns of what is protected, without exceptions")
    if not {"", ".", ".."}.isdisjoint(value.removeprefix("/").removesuffix("/").split("/")):
        refuse("not a path of the repository", "a pattern as in .gitignore, such as .github/")
    if value != value.strip():
        refuse("begins or ends with a space", "a pattern such as .github/ without it")
    if _NOT_IN_A_PATTERN.search(value):
        refuse("holds a backslash, or a [ that opens no plain set", "*, ?, **, [abc] and [!abc]")
    return value


def _remote(value: str) -> str:
    if value and not _REMOTE.fullmatch(value):
        refuse("not the name of a remote", "the name that 'git remote' shows, such as origin")
    return value


# A TOML array is a list, which is not frozen; strictness would refuse to make a tuple of it.
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_text)]
Line = Annotated[str, AfterValidator(_line)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]
Pattern = Annotated[Text, AfterValidator(_pattern)]
Patterns = Annotated[tuple[Pattern, ...], Field(strict=False)]
Remote = Annotated[str, AfterValidator(_remote)]
Place = Annotated[Text, AfterValidator(_place)]
Branch = Annotated[str, AfterValidator(_branch)]
Identity = Annotated[str, AfterValidator(_identity)]
Argument = Annotated[str, AfterValidator(_argument)]
CommandLine = Annotated[tuple[Argument, ...], Field(strict=False), AfterValidator(_command)]
Variable = Annotated[str, AfterValidator(_variable)]
VariableName = Annotated[str, AfterValidator(_variable_name)]
ProfileName = Annotated[str, AfterValidator(_profile_name)]
Variables = Annotated[tuple[Variable, ...], Field(strict=False), AfterValidator(_variables)]
