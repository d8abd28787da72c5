"""The agent programs that are known, by the name of their preset."""

from alluvium_like.agents.adapters.aider import Aider
from alluvium_like.agents.adapters.base import Adapter
from alluvium_like.agents.adapters.chat import Chat
from alluvium_like.agents.adapters.claude import Claude
from alluvium_like.agents.adapters.codex import Codex
from alluvium_like.agents.adapters.gemini import Gemini
from alluvium_like.agents.adapters.mcp import Mcp
from alluvium_like.agents.adapters.mini import Mini
from alluvium_like.agents.adapters.opencode import Opencode
from alluvium_like.agents.adapters.pi import Pi
from alluvium_like.agents.adapters.qwen import Qwen
from alluvium_like.agents.adapters.unproven import Amp, Copilot, CursorAgent, Goose

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        *(Pi(), Codex(), Claude(), Gemini(), Opencode(), Qwen(), Aider(), Mini()),
        *(Goose(), CursorAgent(), Copilot(), Amp(), Chat(), Mcp()),
    )
}
