"""What each program needs of the world: the hosts for its model."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.providers import text_of
from alluvium_like.config.agents import Profile
from alluvium_like.config.hosts import parse_host

USUAL = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com")
CODEX = ("api.openai.com", "chatgpt.com", "auth.openai.com")
CLAUDE = ("api.anthropic.com", "platform.claude.com", "console.anthropic.com")
GEMINI = (
    *("generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com", "oauth2.googleapis.com"),
)
QWEN = ("api.openai.com", "chat.qwen.ai", "portal.qwen.ai", "dashscope.aliyuncs.com")
OWN = ("own.example:8443",)
URL = "https://own.example:8443/v1"
PROVIDER = f'[model_providers.own]\nbase_url = "{URL}"\n'


def hosts(
    program: str,
    home: Path,
    environment: Mapping[str, str] | None = None,
    arguments: str = "",
    model: str = "",
) -> tuple[str, ...]:
    told = {"HOME": str(home), **(environment or {})}
    found = ADAPTERS[program].hosts(told, arguments.split(), model)
    assert [str(parse_host(each)) for each in found] == list(found)
    return found


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("codex", CODEX),
        ("claude", CLAUDE),
        ("gemini", GEMINI),
        ("qwen", QWEN),
        ("opencode", (*USUAL, "opencode.ai")),
        *((name, USUAL) for name in ("pi", "aider", "mini-swe-agent", "goose")),
        ("cursor-agent", ("*.cursor.sh", "*.cursorapi.com")),
        ("copilot", ("*.githubcopilot.com", "api.github.com")),
        ("amp", ("ampcode.com", "*.ampcode.com")),
        ("chat", ()),
        ("mcp", ()),
    ],
)
def test_where_nothing_is_said_its_usual_hosts_count(
    program: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert hosts(program, tmp_path) == expected
    assert ADAPTERS[program].hosts({}) == expected


def test_every_program_is_asked_above() -> None:
    marks = test_where_nothing_is_said_its_usual_hosts_count.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == set(ADAPTERS)


@pytest.mark.parametrize(
    ("program", "environment", "expected"),
    [
        ("claude", {"ANTHROPIC_API_KEY": "k"}, ("api.anthropic.com",)),
        ("claude", {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": URL}, OWN),
        (
            "claude",
            {"ANTHROPIC_BASE_URL": "http://127.0.0.1:4011"},
            ("127.0.0.1:4011", *CLAUDE[1:]),
        ),
        (
            "claude",
            {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "eu-west-1"},
            ("bedrock-runtime.eu-west-1.amazonaws.com",),
        ),
        ("claude", {"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_BEDROCK_BASE_URL": URL}, OWN),
        (
            "claude",
            {"CLAUDE_CODE_USE_VERTEX": "1", "CLOUD_ML_REGION": "us-east5"},
            (
                *("aiplatform.googleapis.com", "us-east5-aiplatform.googleapis.com"),
                "oauth2.googleapis.com",
            ),
        ),
        ("codex", {"OPENAI_BASE_URL": URL}, (*OWN, *CODEX)),
        ("gemini", {"GEMINI_API_KEY": "k"}, GEMINI[:1]),
        ("gemini", {"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": URL}, OWN),
        (
            "gemini",
            {"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_CLOUD_LOCATION": "a/b"},
            ("aiplatform.googleapis.com", "oauth2.googleapis.com"),
        ),
        ("qwen", {"OPENAI_API_KEY": "k"}, ("api.openai.com",)),
        ("qwen", {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://[::1]:1/v1"}, ("[::1]:1",)),
        ("aider", {"OPENAI_API_KEY": "k", "OPENAI_API_BASE": URL}, OWN),
        ("aider", {"OPENAI_API_KEY": "", "GROQ_API_KEY": "k"}, ("api.groq.com",)),
        ("mini-swe-agent", {"OPENAI_API_KEY": "k", "OPENAI_API_BASE": "no address"}, USUAL[:1]),
        ("mini-swe-agent", {"OLLAMA_API_BASE": "http://localhost:11434"}, ("localhost:11434",)),
        (
            "pi",
            {"XAI_API_KEY": "k", "ANTHROPIC_OAUTH_TOKEN": "k"},
            ("api.anthropic.com", "api.x.ai"),
        ),
        ("opencode", {"OPENROUTER_API_KEY": "k"}, ("openrouter.ai",)),
        (
            "opencode",
            {"OPENCODE_CONFIG_CONTENT": f'{{"a": {{"baseURL": "{URL}"}}}} // not JSON'},
            OWN,
        ),
        ("goose", {"DATABRICKS_HOST": "https://a.example"}, ("a.example",)),
        ("amp", {"AMP_URL": URL}, OWN),
    ],
)
def test_an_environment_names_hosts(
    program: str, environment: dict[str, str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert hosts(program, tmp_path, environment) == expected


@pytest.mark.parametrize(
    ("program", "file", "text", "expected"),
    [
        ("codex", ".codex/config.toml", f'model_provider = "own"\n{PROVIDER}', OWN),
        ("codex", ".codex/config.toml", PROVIDER, CODEX),
        ("codex", ".codex/config.toml", 'model_provider = "ollama"', ("localhost:11434",)),
        ("codex", ".codex/config.toml", f'chatgpt_base_url = "{URL}"', (*OWN, *CODEX)),
        (
            "codex",
            ".codex/config.toml",
            f'profile = "p"\n[profiles.p]\nmodel_provider = "own"\n{PROVIDER}',
            OWN,
        ),
        (
            "claude",
            ".claude/settings.json",
            f'{{"env": {{"ANTHROPIC_BASE_URL": "{URL}", "ANTHROPIC_API_KEY": 1}}}}',
            OWN,
        ),
        ("pi", ".pi/agent/models.json", f'{{"providers": {{"x": {{"baseUrl": "{URL}"}}}}}}', OWN),
        (
            "pi",
            ".pi/agent/auth.json",
            '{"github-copilot": {}, "unknown": {}}',
            ("*.githubcopilot.com", "api.github.com"),
        ),
        ("pi", ".pi/agent/auth.json", '{"anthropic": {}}', CLAUDE),
        ("gemini", ".gemini/.env", f'GEMINI_API_KEY="k"\nGOOGLE_GEMINI_BASE_URL={URL}\n', OWN),
        ("qwen", ".qwen/settings.json", f'{{"security": {{"auth": {{"baseUrl": "{URL}"}}}}}}', OWN),
        ("qwen", ".qwen/.env", f"export OPENAI_BASE_URL='{URL}'", OWN),
        ("opencode", ".config/opencode/opencode.json", f'{{"x": {{"baseURL": "{URL}"}}}}', OWN),
        (
            "opencode",
            ".local/share/opencode/auth.json",
            '{"openai": {"type": "oauth"}}',
            ("api.openai.com", "chatgpt.com", "auth.openai.com"),
        ),
        ("aider", ".aider.conf.yml", f"model: x\nopenai-api-base: {URL}\n", OWN),
        ("aider", ".env", f"OPENAI_API_BASE={URL}", OWN),
        ("mini-swe-agent", ".config/mini-swe-agent/.env", f"OPENAI_API_BASE='{URL}'", OWN),
        ("goose", ".config/goose/config.yaml", f"OPENAI_HOST: {URL}\n", OWN),
    ],
)
def test_a_person_s_files_name_hosts(
    program: str, file: str, text: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    place = tmp_path / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    assert hosts(program, tmp_path) == expected


@pytest.mark.parametrize("text", ["", "\0\xff", "[", "[]", '"a"', "{" * 5000, "a = 1\na = 2"])
@pytest.mark.parametrize("program", sorted(ADAPTERS))
def test_files_that_are_wrong_change_nothing(program: str, text: str, tmp_path: Path) -> None:
    files = (
        *(".codex/config.toml", ".claude/settings.json", ".pi/agent/models.json"),
        *(".pi/agent/auth.json", ".gemini/.env", ".qwen/settings.json", ".qwen/.env"),
        *(".config/opencode/opencode.json", ".local/share/opencode/auth.json"),
        *(".aider.conf.yml", ".config/mini-swe-agent/.env", ".config/goose/config.yaml"),
    )
    usual = hosts(program, tmp_path)
    for file in files:
        place = tmp_path / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    assert hosts(program, tmp_path) == usual


@pytest.mark.parametrize(
    "text",
    [
        "model_provider = []",
        'model_provider = "x"\nmodel_providers = 1',
        'model_provider = "own"\n[model_providers]\nown = 1',
        'model_provider = "own"\n[model_providers.own]\nbase_url = 1',
        'profile = 1\nprofiles = ["x"]',
    ],
)
def test_settings_of_codex_that_are_wrong_change_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(text)
    assert hosts("codex", tmp_path) == CODEX
    assert hosts("codex", tmp_path, arguments="-c a.b=1 -c a=[ -c =1 -c") == CODEX


@pytest.mark.parametrize(
    ("program", "arguments", "expected"),
    [
        ("codex", '-c model_provider="own"', OWN),
        ("codex", "--config=model_provider=own", OWN),
        ("codex", "--profile p", OWN),
        ("codex", "--profile=q", OWN),
        ("codex", "--profile ../../p", CODEX),
        ("codex", f"-c model_provider=new -c model_providers.new.base_url={URL}", OWN),
        ("codex", "-c model_provider=own -c model_providers=1", CODEX),
        ("codex", "--oss", ("localhost:11434", "localhost:1234")),
        ("codex", "--oss --local-provider lmstudio", ("localhost:1234",)),
        ("aider", f"--openai-api-base {URL}", (*USUAL, *OWN)),
        ("aider", f"--openai-api-base={URL}", (*USUAL, *OWN)),
        ("aider", "--message see:https://other.example", USUAL),
    ],
)
def test_arguments_name_hosts(
    program: str, arguments: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / ".codex"
    folder.mkdir()
    folder.joinpath("config.toml").write_text(
        f'{PROVIDER}[profiles.q]\nmodel_provider = "own"\n[profiles.p]\n'
    )
    folder.joinpath("p.config.toml").write_text('model_provider = "own"\n[model_providers.x]\n')
    assert hosts(program, tmp_path, arguments=arguments) == expected


def test_a_model_of_this_machine_is_asked_on_this_machine(tmp_path: Path) -> None:
    key = {"OPENAI_API_KEY": "k"}
    assert hosts("aider", tmp_path, key, model="ollama_chat/qwen3") == (
        *("api.openai.com", "localhost:11434"),
    )
    other = {"OLLAMA_API_BASE": "http://gpu.example:11434"}
    assert hosts("aider", tmp_path, other, model="ollama/qwen3") == ("gpu.example:11434",)


def test_chat_asks_its_own_address() -> None:
    profile = Profile(preset="chat", base_url="http://127.0.0.1:4011/v1", models=("m",))
    assert ADAPTERS["chat"].of(profile).hosts({}) == ("127.0.0.1:4011",)


def test_files_are_read_in_the_folder_that_a_variable_names(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    other.joinpath("config.toml").write_text(f'model_provider = "own"\n{PROVIDER}')
    other.joinpath("models.json").write_text(f'{{"baseUrl": "{URL}"}}')
    assert hosts("codex", tmp_path, {"CODEX_HOME": str(other)}) == OWN
    assert hosts("pi", tmp_path, {"PI_CODING_AGENT_DIR": str(other)}) == OWN


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert text_of(tmp_path / "fifo") == text_of(tmp_path) == text_of(tmp_path / "none") == ""
