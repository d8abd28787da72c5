"""The agent that calls a tool of an MCP server, which it starts on stdio and ends.

    python -P -m alluvium_like.agents.mcp_client --tool=NAME --arguments=JSON -- SERVER …

The prompt is on the standard input, events are on the standard output. In the texts of the
arguments {prompt}, {model} and what the environment says of the attempt are filled in.
"""

import argparse
import json
import os
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from alluvium_like.agents.command import substitute
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import Failure
from alluvium_like.agents.mcp_telling import events_of, result_of
from alluvium_like.agents.telling import Told, exit_code, failed, tell
from alluvium_like.config.own_agents import TOOL_PLACEHOLDERS

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream
    from mcp import ClientSession
    from mcp.shared.message import SessionMessage

    Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]

_INSTALL: Final = "no MCP client is installed; run: pip install 'alluvium-like[mcp]'"
_NOT_READY: Final = "the MCP server ended before it was ready; its words are in stderr.log"
_REMOVED: Final = (
    " (codex has had no mcp-server since 0.154: install @openai/codex@0.153.4, or take its own "
    'preset = "codex")'
)
_MOST_PAGES: Final = 100


def main() -> int:
    """Call the tool that the arguments name."""
    told = _arguments()
    values = _values(told.model, sys.stdin.buffer.read().decode("utf-8", "replace"))
    given = {key: filled(each, values) for key, each in json.loads(told.arguments).items()}
    try:
        events = anyio.run(_run, told.server, told.tool, given)
    except ModuleNotFoundError as error:
        events = failed(Failure(f"{_INSTALL} ({error})"))
    except OSError as error:
        events = failed(Failure(f"{told.server[0]} cannot be started: {error.strerror}"))
    tell(*events)
    return exit_code(events)


def filled(value: object, values: Mapping[str, str]) -> object:
    """Return what JSON can say with the placeholders filled in, in every text of it."""
    if isinstance(value, str):
        return substitute(value, values)
    if isinstance(value, dict):
        return {key: filled(item, values) for key, item in value.items()}
    return [filled(item, values) for item in value] if isinstance(value, list) else value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Call a tool of an MCP server on stdio.")
    parser.add_argument("--tool", required=True)
    parser.add_argument("--arguments", default='{"prompt": "{prompt}"}', metavar="JSON")
    parser.add_argument("--model", default="")
    parser.add_argument("server", nargs="+")
    return parser.parse_args()


def _values(model: str, prompt: str) -> dict[str, str]:
    known = {name: os.environ.get(f"ALLUVIUM_{name.upper()}") for name in TOOL_PLACEHOLDERS}
    values = {name: value for name, value in known.items() if value is not None}
    return values | {"model": model, "prompt": prompt}


async def _run(server: list[str], tool: str, given: dict[str, Any]) -> Told:
    """Start the server, call the tool, end the server; return what the result tells."""
    from mcp import ClientSession, MCPError, StdioServerParameters
    from mcp.client.stdio import stdio_client

    told = StdioServerParameters(
        command=server[0], args=server[1:], env=dict(os.environ), cwd=Path.cwd()
    )
    async with (
        stdio_client(told) as (incoming, outgoing),
        _heard(incoming) as heard,
        ClientSession(heard, outgoing) as session,
    ):
        # What is raised in here would come out of three task groups.
        try:
            await session.initialize()
        except MCPError as error:
            removed = _REMOVED if "mcp-server" in server else ""
            return failed(Failure(f"{_NOT_READY}: {error}{removed}"))
        try:
            names = await _tools(session)
            if tool not in names:
                known = ", ".join(names) or "none"
                return failed(Failure(f"the MCP server has no tool '{tool}'; it has: {known}"))
            result = await session.call_tool(tool, given, progress_callback=_ignore)
        except (MCPError, RuntimeError) as error:
            return failed(event_of(str(error)))
        return tuple(result_of(result.model_dump(by_alias=True, mode="json")))


async def _tools(session: "ClientSession") -> list[str]:
    from mcp.types import PaginatedRequestParams

    names: list[str] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        names += [each.name for each in page.tools]
        cursor = page.next_cursor
        if not cursor:
            break
    return names


async def _ignore(progress: float, total: float | None, message: str | None) -> None:
    """Progress is told where it is heard: only who asks for it gets it."""


@asynccontextmanager
async def _heard(
    incoming: "AsyncIterable[SessionMessage | Exception]",
) -> "AsyncIterator[Incoming]":
    """Tell of what comes from the server in its order, and pass it on to the session.

    The session itself hands over notifications in any order, and may drop some.
    """
    send, receive = anyio.create_memory_object_stream["SessionMessage | Exception"](0)

    async def hear() -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with send:
                async for item in incoming:
                    if not isinstance(item, Exception):
                        tell(*events_of(item.message.model_dump(by_alias=True, mode="json")))
                    await send.send(item)

    async with anyio.create_task_group() as group:
        group.start_soon(hear)
        yield receive
        group.cancel_scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
