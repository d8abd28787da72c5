"""The keys of the presets `chat` and `mcp`, and what they come to.

Both are programs that come with the daemon and run as every agent does: one makes a single request
to a model, the other calls a tool of an MCP server.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue

from alluvium_like.config.problems import refuse
from alluvium_like.config.values import (
    PLACEHOLDERS,
    Dollars,
    Line,
    Table,
    Texts,
    VariableName,
    check_placeholders,
)

CHAT: Final = "chat"
MCP: Final = "mcp"
TOOL_PLACEHOLDERS: Final = ("prompt", "model", *(name for name in PLACEHOLDERS if name != "python"))
CODEX_TOOL: Final = "codex"
"""The tool of codex's own MCP server, whose arguments are known."""
_SHARE: Final = {"low": 0.0, "medium": 0.5, "high": 1.0}


def _address(value: str) -> str:
    if not value:
        return value
    allowed = "an address such as https://api.openai.com/v1"
    try:
        parts = urlsplit(value)
        named = bool(parts.hostname and parts.port != 0)
    except ValueError:
        refuse("not an address", allowed)
    if parts.scheme not in ("http", "https") or not named or value != "".join(value.split()):
        refuse("not an address of http or https", allowed)
    if parts.query or parts.fragment or "@" in parts.netloc:
        refuse("an address with a query, a fragment or a name to log in with", allowed)
    return value


def _arguments(value: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    for text in texts_in(value):
        check_placeholders(text, TOOL_PLACEHOLDERS)
    return value


ToolArguments = Annotated[Mapping[str, JsonValue], AfterValidator(_arguments)]


class ChatKeys(Table):
    """What the preset chat is told."""

    base_url: Annotated[Line, AfterValidator(_address)] = Field(
        default="",
        description="Preset chat: where the model is asked, the address of an OpenAI-compatible "
        "service without /chat/completions, such as https://api.groq.com/openai/v1.",
    )
    key: VariableName = Field(
        default="",
        description="Preset chat: the name of the environment variable that holds the key. It is "
        "passed on and masked as those of 'env' are. Empty: no key is sent.",
    )
    models: Texts = Field(
        default=(),
        description="Preset chat: the models that may be asked, and no other. 'model' is one of "
        "them; empty, it is the first.",
    )
    min_budget: Dollars = Field(
        default=0,
        description="Preset chat: what one request may cost at the intensity low, in US dollars.",
    )
    max_budget: Dollars = Field(
        default=0,
        description="Preset chat: what one request may cost at the intensity high, in US dollars, "
        "as [prices] gives it. The answer's length is limited to that. 0 sets no limit.",
    )
    intensity: Literal["low", "medium", "high"] = Field(
        default="medium",
        description="Preset chat: which of the two budgets holds for a request; medium is halfway.",
    )


class ToolKeys(Table):
    """What the preset mcp is told; its `command` is the server's."""

    tool: Line = Field(
        default="",
        description="Preset mcp: the tool that is called of the MCP server which 'command' starts.",
    )
    tool_arguments: ToolArguments = Field(
        default={},
        description="Preset mcp: what the tool is given. Filled in, in texts: "
        + " ".join(f"{{{name}}}" for name in TOOL_PLACEHOLDERS)
        + '. Empty: {prompt = "{prompt}"}; for the tool codex its folder, model and sandbox, too.',
    )


class Allowance(NamedTuple):
    """What one request may cost (US dollars), and a million tokens read and written."""

    dollars: float
    input: float
    output: float


def request_dollars(keys: ChatKeys) -> float:
    """Return what one request may cost, in US dollars; 0 where nothing limits it."""
    return keys.min_budget + _SHARE[keys.intensity] * (keys.max_budget - keys.min_budget)


def texts_in(value: object) -> list[str]:
    """Return every text in what JSON can say, however deep."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in texts_in(part)]
    return [text for part in value for text in texts_in(part)] if isinstance(value, list) else []
