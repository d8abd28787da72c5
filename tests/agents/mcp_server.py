"""A small MCP server on stdio, with tools that work, fail, leave or never end."""

import json
import os
from pathlib import Path
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("small")


@server.tool()
async def write(text: str, deep: list[dict[str, Any]], times: int, context: Context) -> str:
    """Write what is given into the folder that is named."""
    given = {"text": text, "model": deep[0]["model"], "times": times}
    await context.report_progress(1, 2, "halfway")
    await anyio.Path(deep[0]["place"], "given.txt").write_text(json.dumps(given))
    return "It is written."


@server.tool()
async def fail(prompt: str) -> str:
    """Fail."""
    raise ToolError(f"nothing works today, {len(prompt)} letters or not")


@server.tool()
async def leave(prompt: str) -> str:
    """End the server in the middle of a call."""
    os._exit(len(prompt) and 3)


@server.tool()
async def wait(prompt: str) -> str:
    """Begin something that goes on without it, and never answer."""
    await anyio.open_process(["sleep", "600"])
    Path("begun").write_text(prompt)
    await anyio.sleep_forever()
    return ""


if __name__ == "__main__":
    server.run()
