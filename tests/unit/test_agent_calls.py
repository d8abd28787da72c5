"""How each program is called, what it is given, and who can log in."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from stream_bed import PROMPT, call_in

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Invocation


def invoked(program: str, folder: Path, **changes: object) -> Invocation:
    return ADAPTERS[program].invoke(replace(call_in(folder), **changes))  # type: ignore[arg-type]


CODEX = (
    "--json --skip-git-repo-check -c features.unbounded_connection_retries=false"
    " -c analytics.enabled=false -c check_for_update_on_startup=false"
    ' -c sandbox_mode="workspace-write" -c sandbox_workspace_write.writable_roots=["HERE/agent"]'
)
CLAUDE = (
    "-p --output-format stream-json --verbose --include-partial-messages"
    " --permission-mode bypassPermissions"
)
PI = "-p --mode json --session-dir HERE/agent/sessions"
OPENCODE = "run --format json --auto --title task --print-logs --log-level ERROR"
CURSOR = "-p --output-format stream-json --force --trust --workspace HERE/tree"
READ = "Read HERE/agent/prompt.md and do what it says."
AMP = f"-x {READ} --stream-json --dangerously-allow-all"
COPILOT = f"-p {READ} --output-format json --allow-all --no-ask-user"
AIDER = (
    "--message-file /dev/stdin --yes-always --no-stream --no-pretty --no-fancy-input"
    " --no-check-update --no-show-release-notes --no-show-model-warnings --no-gitignore"
    " --no-auto-commits --no-dirty-commits --no-suggest-shell-commands --no-detect-urls"
    " --map-tokens 0 --chat-history-file HERE/agent/sessions/aider/chat.md"
    " --input-history-file HERE/agent/sessions/aider/input"
)


@pytest.mark.parametrize(
    ("program", "fresh", "resumed"),
    [
        ("codex", f"exec {CODEX} -m M --own -", f"exec resume {CODEX} -m M --own ID -"),
        ("claude", f"{CLAUDE} --model M --own", f"{CLAUDE} --model M --resume ID --own"),
        ("pi", f"{PI} --model M --own", f"{PI} --model M --session ID --own"),
        (
            "mini-swe-agent",
            "-y --exit-immediately -m M -c ../config/mini.yaml -c HERE/agent/sessions/mini.yaml"
            " -o HERE/agent/sessions/trajectory.json --own",
            None,
        ),
        (
            "gemini",
            "--yolo --skip-trust --output-format stream-json -m M --own",
            "--yolo --skip-trust --output-format stream-json -m M -r ID --own",
        ),
        (
            "qwen",
            "--yolo --output-format stream-json -m M --own",
            "--yolo --output-format stream-json -m M --resume ID --own",
        ),
        ("opencode", f"{OPENCODE} -m M --own", f"{OPENCODE} -m M --session ID --own"),
        ("aider", f"{AIDER} --model M --own", f"{AIDER} --restore-chat-history --model M --own"),
        ("cursor-agent", f"{CURSOR} --model M --own", f"{CURSOR} --model M --resume ID --own"),
        (
            "goose",
            "run -i HERE/agent/prompt.md --output-format stream-json -q --no-session"
            " --model M --own",
            None,
        ),
        ("copilot", f"{COPILOT} --model M --own", f"{COPILOT} --model M --resume ID --own"),
        ("amp", f"{AMP} --own", f"threads continue ID {AMP} --own"),
    ],
)
def test_a_program_is_called_afresh_and_with_its_session(
    program: str, fresh: str, resumed: str | None, tmp_path: Path
) -> None:
    def arguments(session: str) -> str:
        given = invoked(program, tmp_path, model="M", arguments=("--own",), session=session)
        return " ".join(given.arguments).replace(str(tmp_path), "HERE")

    assert arguments("") == fresh
    assert ADAPTERS[program].resumes == (resumed is not None)
    if resumed is not None:
        assert arguments("ID") == resumed
    by_file = ("mini-swe-agent", "goose", "copilot", "amp")
    assert invoked(program, tmp_path).stdin == (b"" if program in by_file else PROMPT.encode())


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
    assert "--restore-chat-history" not in fresh
    chat.write_text("what was said")

    again = invoked("aider", tmp_path, session="chat.md").arguments
    assert "--restore-chat-history" in again
    assert chat.read_text() == "what was said"

    invoked("aider", tmp_path)
    assert chat.read_text() == ""


def test_aider_and_mini_are_given_the_prompt_as_it_is_and_nobody_else(tmp_path: Path) -> None:
    """The file of the prompt that people read is masked; a program must not work from that."""
    prompt = f"Set NODE_ENV with sk-{'a' * 30}."
    for session in ("", "chat.md"):
        aider = invoked("aider", tmp_path, session=session, prompt=prompt)
        assert aider.arguments[:2] == ("--message-file", "/dev/stdin")
        assert aider.stdin == prompt.encode()

    mini = invoked("mini-swe-agent", tmp_path, prompt=prompt).arguments
    settings = Path(mini[mini.index("-o") - 1])
    assert json.loads(settings.read_text())["run"] == {"task": prompt}
    for kept in (tmp_path / "agent/sessions").rglob("*.*"):
        assert kept.stat().st_mode & 0o777 == 0o600, kept


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


def test_a_file_with_a_login_is_found_where_the_program_keeps_it(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home / ".codex", home / ".pi/agent", elsewhere):
        folder.mkdir(parents=True)
    codex, pi = ADAPTERS["codex"], ADAPTERS["pi"]
    plain = {"HOME": str(home)}
    (home / ".pi/agent/auth.json").write_text("{}")  # pi makes it, whether one logs in or not
    assert [codex.login(plain).ready, pi.login(plain).ready] == [False, False]
    (home / ".pi/agent/auth.json").write_text('{"anthropic": {"type": "oauth"}}')
    (home / ".codex/config.toml").write_text(
        'model_provider = "own"\n[model_providers.own]\nenv_key = "OWN_KEY"\n'
    )
    (elsewhere / ".credentials.json").write_text("{}")
    assert pi.login(plain).words == "with ~/.pi/agent/auth.json"
    (elsewhere / "models.json").write_text('{"providers": {"own": {"apiKey": "OWN_KEY"}}}')
    own = {**plain, "PI_CODING_AGENT_DIR": str(elsewhere)}
    assert [pi.login(own).ready, pi.login({**own, "OWN_KEY": "x"}).ready] == [False, True]
    assert codex.login({**plain, "OPENAI_API_KEY": "not read by it"}).ready is False
    assert codex.login({**plain, "OWN_KEY": "x"}).ready
    assert codex.login({**plain, "OWN_KEY": "x", "CODEX_HOME": str(elsewhere)}).ready is False
    assert ADAPTERS["claude"].login({**plain, "CLAUDE_CONFIG_DIR": str(elsewhere)}).ready
