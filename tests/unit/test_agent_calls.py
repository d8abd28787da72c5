"""How gemini, qwen, opencode, aider and the unproven programs are called, and who can log in."""

import json
from pathlib import Path

import pytest

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Call, Invocation


def invoked(program: str, folder: Path, **changes: object) -> Invocation:
    call = {
        "worktree": folder / "tree",
        "prompt": "Do it.",
        "prompt_file": folder / "agent/prompt.md",
        "home": folder / "agent/sessions",
    }
    return ADAPTERS[program].invoke(Call(**call | changes))  # type: ignore[arg-type]


FRESH = {
    "gemini": "-m m --yolo --skip-trust --output-format stream-json",
    "qwen": "--yolo --output-format stream-json -m m",
    "opencode": "run --format json --auto --title task --print-logs --log-level ERROR -m m",
    "cursor-agent": "-p --output-format stream-json --force --trust --workspace TREE --model m",
    "goose": "run -i PROMPT --output-format stream-json -q --no-session --model m",
    "copilot": "-p WORDS --output-format json --allow-all --no-ask-user --model m",
    "amp": "-x WORDS --stream-json --dangerously-allow-all",
}
RESUMED = {
    "gemini": "-r s1",
    "qwen": "--resume s1",
    "opencode": "--session s1",
    "cursor-agent": "--resume s1",
    "copilot": "--resume s1",
    "amp": "threads continue s1",
}


@pytest.mark.parametrize("program", FRESH)
def test_the_arguments_say_model_session_and_what_the_person_adds(
    program: str, tmp_path: Path
) -> None:
    fresh = invoked(program, tmp_path, model="m", arguments=("--more", "1"))
    resumed = invoked(program, tmp_path, model="m", arguments=("--more", "1"), session="s1")

    words = f"Read {tmp_path / 'agent/prompt.md'} and do what it says."
    named = {"TREE": str(tmp_path / "tree"), "PROMPT": str(tmp_path / "agent/prompt.md")}
    expected = [(named | {"WORDS": words}).get(word, word) for word in FRESH[program].split()]
    assert sorted(fresh.arguments) == sorted([*expected, "--more", "1"])
    assert fresh.arguments[-2:] == ("--more", "1")
    added = set(resumed.arguments) - set(fresh.arguments)
    assert added == set(RESUMED.get(program, "").split())
    assert program in ("goose", "copilot", "amp") or fresh.stdin == b"Do it."


def test_gemini_gets_settings_of_ours_only_where_there_is_a_key_and_nothing_else(
    tmp_path: Path,
) -> None:
    own = {"HOME": str(tmp_path), "GEMINI_API_KEY": "k"}
    given_home = invoked("gemini", tmp_path, environment=own).environment["GEMINI_CLI_HOME"]
    told = json.loads(Path(given_home, ".gemini/settings.json").read_text())
    assert told["security"]["auth"]["selectedType"] == "gemini-api-key"
    assert Path(given_home).is_relative_to(tmp_path / "agent/sessions")

    for other in (
        {"HOME": str(tmp_path)},
        own | {"GOOGLE_GENAI_USE_VERTEXAI": "true"},
        own | {"GEMINI_CLI_HOME": "/mine"},
    ):
        assert "GEMINI_CLI_HOME" not in invoked("gemini", tmp_path, environment=other).environment
    (tmp_path / ".gemini").mkdir()
    (tmp_path / ".gemini/settings.json").write_text("{}")
    assert "GEMINI_CLI_HOME" not in invoked("gemini", tmp_path, environment=own).environment


def test_qwen_logs_in_with_the_key_it_is_given_unless_the_person_says_how(tmp_path: Path) -> None:
    def kind(*arguments: str, **environment: str) -> str:
        found = invoked("qwen", tmp_path, arguments=arguments, environment=environment).arguments
        return found[found.index("--auth-type") + 1] if "--auth-type" in found else ""

    assert kind(OPENAI_API_KEY="k") == "openai"
    assert kind(ANTHROPIC_API_KEY="k") == "anthropic"
    assert kind() == ""
    assert kind("--auth-type", "qwen-oauth", OPENAI_API_KEY="k") == "qwen-oauth"
    defaults = invoked("qwen", tmp_path).environment["QWEN_CODE_SYSTEM_DEFAULTS_PATH"]
    assert json.loads(Path(defaults).read_text())["memory"] == {"enableManagedAutoMemory": False}


def test_aider_goes_on_with_its_chat_and_a_new_session_empties_it(tmp_path: Path) -> None:
    fresh = invoked("aider", tmp_path, model="openai/m").arguments
    chat = Path(fresh[fresh.index("--chat-history-file") + 1])
    assert fresh[:2] == ("--message-file", str(tmp_path / "agent/prompt.md"))
    assert "--restore-chat-history" not in fresh
    chat.write_text("what was said")

    secret = "sk-" + "a" * 30
    again = invoked("aider", tmp_path, session="chat.md", prompt=f"Go on with {secret}.").arguments
    assert "--restore-chat-history" in again
    assert chat.read_text() == "what was said"
    assert Path(again[1]).read_text() == "Go on with [masked]."

    invoked("aider", tmp_path)
    assert chat.read_text() == ""


def test_a_link_that_an_agent_planted_leads_no_file_of_ours_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home = tmp_path / "agent/sessions"
    home.mkdir(parents=True)
    (home / "qwen").symlink_to(elsewhere)
    (home / "aider").mkdir()
    (home / "aider/chat.md").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("precious")

    invoked("qwen", tmp_path)
    invoked("aider", tmp_path)

    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    ("program", "environment", "file", "text", "ready"),
    [
        ("gemini", {"GEMINI_API_KEY": "k"}, "", "", True),
        ("gemini", {}, ".gemini/oauth_creds.json", "{}", True),
        ("gemini", {"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_API_KEY": "k"}, "", "", True),
        ("gemini", {"GOOGLE_GENAI_USE_VERTEXAI": "true"}, "", "", False),
        ("qwen", {}, "", "", False),
        ("qwen", {}, ".qwen/settings.json", '{"security":{"auth":{"apiKey":"k"}}}', True),
        ("qwen", {}, ".qwen/settings.json", "[[[", False),
        ("opencode", {}, ".local/share/opencode/auth.json", '{"anthropic":{}}', True),
        ("opencode", {}, ".local/share/opencode/auth.json", "{}", None),
        ("opencode", {"OPENROUTER_API_KEY": "k"}, "", "", True),
        ("aider", {}, ".aider.conf.yml", "openai-api-key: k", True),
        ("aider", {}, ".aider.conf.yml", "# api-key: k", None),
        ("aider", {"DEEPSEEK_API_KEY": "k"}, "", "", True),
        ("goose", {}, "", "", None),
        ("amp", {}, "", "", False),
    ],
)
def test_whether_a_program_can_log_in_is_seen_without_asking_it(
    program: str,
    environment: dict[str, str],
    file: str,
    text: str,
    ready: bool | None,
    tmp_path: Path,
) -> None:
    if file:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)

    login = ADAPTERS[program].login({"HOME": str(tmp_path), **environment})

    assert login.ready is ready
    assert login.words
