"""The providers of models that several programs know: their keys, addresses and hosts.

A provider counts where its key is there or another address is named for it, which then stands in
its hosts' place. Where nobody is named the usual ones count: a login that is not seen may be one.
"""

import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alluvium_like.config.hosts import host_of

_LONGEST_FILE: Final = 1_000_000
_BASE_URL: Final = re.compile(r'"(?:baseU(?:RL|rl)|base_url)"\s*:\s*"([^"\\]*)"')
_ASSIGNED: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", re.MULTILINE)
_REGION: Final = re.compile(r"[a-z]+(?:-[a-z0-9]+)+")
_WHOLE_URL: Final = re.compile(r"(?:[^\s:/]*=)?[\"']?(https?://[^\s\"']+)[\"']?")


@dataclass(frozen=True, slots=True)
class Provider:
    """`bases`: variables that may name another address of it."""

    keys: tuple[str, ...]
    hosts: tuple[str, ...]
    bases: tuple[str, ...] = ()


OPENAI: Final = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
GOOGLE_LOGIN: Final = ("oauth2.googleapis.com",)
COPILOT: Final = ("*.githubcopilot.com", "api.github.com")
CHATGPT: Final = ("chatgpt.com", "auth.openai.com")
CLAUDE_LOGIN: Final = ("platform.claude.com", "console.anthropic.com")
PROVIDERS: Final[Mapping[str, Provider]] = {
    "openai": Provider(("OPENAI_API_KEY",), ("api.openai.com",), (*OPENAI, "OPENAI_HOST")),
    "anthropic": Provider(
        ("ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"),
        ("api.anthropic.com",),
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE", "ANTHROPIC_HOST"),
    ),
    "google": Provider(
        ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
        ("generativelanguage.googleapis.com",),
        ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_BASE"),
    ),
    "openrouter": Provider(("OPENROUTER_API_KEY",), ("openrouter.ai",), ("OPENROUTER_API_BASE",)),
    "groq": Provider(("GROQ_API_KEY",), ("api.groq.com",), ("GROQ_API_BASE",)),
    "xai": Provider(("XAI_API_KEY",), ("api.x.ai",), ("XAI_API_BASE",)),
    "mistral": Provider(
        ("MISTRAL_API_KEY",), ("api.mistral.ai", "codestral.mistral.ai"), ("MISTRAL_API_BASE",)
    ),
    "deepseek": Provider(("DEEPSEEK_API_KEY",), ("api.deepseek.com",), ("DEEPSEEK_API_BASE",)),
    "cerebras": Provider(("CEREBRAS_API_KEY",), ("api.cerebras.ai",), ("CEREBRAS_API_BASE",)),
    "zai": Provider(("ZAI_API_KEY",), ("api.z.ai",)),
    "vercel-ai-gateway": Provider(("AI_GATEWAY_API_KEY",), ("ai-gateway.vercel.sh",)),
    "opencode": Provider(("OPENCODE_API_KEY",), ("opencode.ai",)),
    "huggingface": Provider(("HF_TOKEN",), ("router.huggingface.co",)),
    "fireworks": Provider(("FIREWORKS_API_KEY",), ("api.fireworks.ai",)),
    "moonshotai": Provider(("MOONSHOT_API_KEY",), ("api.moonshot.ai", "api.moonshot.cn")),
    "kimi-coding": Provider(("KIMI_API_KEY",), ("api.kimi.com",)),
    "minimax": Provider(("MINIMAX_API_KEY",), ("api.minimax.io",)),
    "github-copilot": Provider(("COPILOT_GITHUB_TOKEN",), COPILOT),
    "openai-codex": Provider((), CHATGPT),
    "azure": Provider((), (), ("AZURE_API_BASE", "AZURE_OPENAI_BASE_URL")),
    "ollama": Provider((), (), ("OLLAMA_API_BASE", "OLLAMA_HOST")),
    "vllm": Provider((), (), ("HOSTED_VLLM_API_BASE",)),
    "databricks": Provider((), (), ("DATABRICKS_HOST", "DATABRICKS_API_BASE")),
}
_LOCAL: Final = {
    "ollama": ("localhost:11434", "OLLAMA_API_BASE", "OLLAMA_HOST"),
    "ollama_chat": ("localhost:11434", "OLLAMA_API_BASE", "OLLAMA_HOST"),
    "lm_studio": ("localhost:1234", "LM_STUDIO_API_BASE"),
    "lmstudio": ("localhost:1234",),
}
"""Servers on this machine: how the names of their models begin, and what names them elsewhere."""
_USUAL: Final = ("openai", "anthropic", "google")
_REFRESHED_AT: Final = {"anthropic": CLAUDE_LOGIN, "google": GOOGLE_LOGIN, "openai": CHATGPT}
"""Where a login, other than a key, is made to last; to log in takes a person and a browser."""


def bases_in(environment: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts of the addresses that variables hold."""
    return hosts_at(environment.get(name, "") for name in names)


def hosts_at(urls: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts that addresses lead to, each once, without what is no address."""
    return tuple(dict.fromkeys(filter(None, map(host_of, urls))))


def hosts_of(environment: Mapping[str, str], logins: Collection[str] = ()) -> tuple[str, ...]:
    """Return the hosts of the providers that an environment and kept logins name, if any does."""
    return tuple(dict.fromkeys(_hosts(environment, logins)))


def vertex_hosts(region: str) -> tuple[str, ...]:
    """Return those of Google's Vertex AI, which has hosts for regions beside the one for all."""
    own = regional("{}-aiplatform.googleapis.com", region)
    return ("aiplatform.googleapis.com", *own, *GOOGLE_LOGIN)


def regional(host: str, region: str) -> tuple[str, ...]:
    """Return a host with a region's name in it, none where that is no such name."""
    return (host.format(region),) if _REGION.fullmatch(region) else ()


def local_hosts(environment: Mapping[str, str], model: str) -> tuple[str, ...]:
    """Return where a model is asked that is served on this machine, by its name."""
    usual, *bases = _LOCAL.get(model.partition("/")[0], ("",))
    return bases_in(environment, bases) or ((usual,) if usual else ())


def usual_hosts() -> tuple[str, ...]:
    """Return the hosts of the providers that most have."""
    return tuple(host for name in _USUAL for host in PROVIDERS[name].hosts)


def _hosts(environment: Mapping[str, str], logins: Collection[str]) -> Iterator[str]:
    for name, provider in PROVIDERS.items():
        named = bases_in(environment, provider.bases)
        if named or name in logins or any(map(environment.get, provider.keys)):
            yield from named or provider.hosts
        if name in logins:
            yield from _REFRESHED_AT.get(name, ())


def urls_among(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the addresses that are the whole of an argument, or of an option's value."""
    for argument in arguments:
        if found := _WHOLE_URL.fullmatch(argument):
            yield found[1]


def text_of(file: Path) -> str:
    """Return what a person's file holds, empty where it cannot be read, or is none. Blocks."""
    with suppress(OSError), os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
        if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            return opened.read(_LONGEST_FILE).decode(errors="replace")
    return ""


def base_urls_in(text: str) -> list[str]:
    """Return the addresses that settings in JSON name as bases, comments or not."""
    return _BASE_URL.findall(text)


def names_in(text: str) -> tuple[str, ...]:
    """Return the names at the top of a document of JSON, none where it is not whole."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return tuple(told) if isinstance(told, dict) else ()


def assigned_in(text: str) -> dict[str, str]:
    """Return what a file of variables assigns."""
    return {name: value.strip("\"'") for name, value in _ASSIGNED.findall(text)}
