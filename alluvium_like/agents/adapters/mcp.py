"""mcp: a tool of an MCP server, called by a program of our own that starts the server.

codex had such a server up to 0.153: `codex mcp-server`, which knows its threads no longer than it
runs. So a task never goes on with a session here.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from alluvium_like.agents.adapters.base import Call, Invocation, Login
from alluvium_like.agents.adapters.codex import sandbox_mode
from alluvium_like.agents.adapters.own import Own
from alluvium_like.config.own_agents import CODEX_TOOL

_INSTALL: Final = "pip install 'alluvium-like[mcp]'"


class Mcp(Own):
    """The client of an MCP server on stdio."""

    name = "mcp"
    install = f"{_INSTALL}, and the server that 'command' names"
    module = "alluvium_like.agents.mcp_client"

    def invoke(self, call: Call) -> Invocation:
        """Say which tool is called with what, and how its server is started."""
        given = dict(self.profile.tool_arguments) or _usual(self.profile.tool, call)
        told = {"tool": self.profile.tool, "arguments": json.dumps(given), "model": call.model}
        arguments = (f"--{name}={value}" for name, value in told.items() if value)
        return Invocation((*arguments, "--", *call.command), stdin=call.stdin)

    def login(self, environment: Mapping[str, str]) -> Login:
        """Look whether a client is installed; what the server logs in with is its own matter."""
        if find_spec("mcp") is None:
            return Login(False, f"run: {_INSTALL}")
        return Login(None, "the server's own")


def _usual(tool: str, call: Call) -> dict[str, object]:
    """Return what a tool is given where nobody says; codex may write what the preset codex may."""
    given: dict[str, object] = {"prompt": "{prompt}"}
    if tool == CODEX_TOOL:
        roots = {"writable_roots": ["{agent_dir}"]}
        given |= {"cwd": "{worktree}", "approval-policy": "never", "sandbox": sandbox_mode(call)}
        given |= {"config": {"sandbox_workspace_write": roots}}
        given |= {"model": "{model}"} if call.model else {}
    return given
