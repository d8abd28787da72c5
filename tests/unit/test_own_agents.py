"""The presets chat and mcp: what is refused, what is read from an answer, how events come back."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from stream_bed import call_in

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.own import event_in
from alluvium_like.agents.chat import most_tokens
from alluvium_like.agents.chat_answer import diff_in, first_line, question_in
from alluvium_like.agents.chat_request import Answer, Question, read_answer
from alluvium_like.agents.events import (
    End,
    Event,
    Failure,
    FileChange,
    Limit,
    Message,
    Session,
    ToolCall,
    Usage,
)
from alluvium_like.agents.mcp_client import filled
from alluvium_like.agents.mcp_telling import events_of, result_of
from alluvium_like.config import Config, parse_config
from alluvium_like.config.agents import Profile, allowance_of, model_problem
from alluvium_like.config.own_agents import Allowance
from alluvium_like.errors import ConfigError
from alluvium_like.lifecycle import AgentOutcome

CHAT = '[agents.c]\npreset = "chat"\nbase_url = "http://x/v1"\nmodels = ["a", "b"]\n'
MCP = '[agents.c]\npreset = "mcp"\ncommand = ["s"]\ntool = "t"\n'
PRICES = "[prices.a]\ninput = 1\noutput = 10\n[prices.b]\n"
EVENTS = (
    Session("one", "m"),
    Message("said"),
    Message("thought of", "thought"),
    ToolCall("shell", "ls"),
    FileChange("a/b"),
    Usage(5, 1, 2, 0.25, "m", total=True),
    Limit("wait", quota=True, resets_at=5.0),
    Limit("slowly", quota=False),
    Failure("no"),
    Failure("no", AgentOutcome.AUTH),
    End(ok=True),
    End(ok=False, text="no"),
)
COMPLETION = {"message": {"content": "Yes."}, "finish_reason": "stop"}


def config(text: str) -> Config:
    return parse_config(tomllib.loads(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHAT + 'model = "z"', "the model 'z' is not allowed; 'models' names a, b"),
        (CHAT + 'command = ["x"]', "'command' with preset"),
        (CHAT + 'arguments = ["x"]', "'arguments' with preset"),
        (CHAT + 'key = "sk-1 2"', "[agents.c].key: not the name of a variable (its text is not"),
        (CHAT + "max_budget = 1", "max_budget of c needs what 'a' costs: a table [prices.\"a\"]"),
        (CHAT + "min_budget = 1", "'min_budget' is more than 'max_budget'"),
        (CHAT + 'max_budget = 1\nintensity = "low"\n' + PRICES, "nothing may be spent"),
        (CHAT.replace("http:", "ftp:"), "[agents.c].base_url: not an address of http or https"),
        (CHAT.replace("//x", "//me:secret@x"), "a name to log in with (its text is not shown"),
        ('[agents.c]\npreset = "chat"', "without an address or its models"),
        ('[agents.c]\npreset = "codex"\nmodels = ["a"]', "'models' is for preset = \"chat\" only"),
        ('[agent]\ntool = "t"', "'tool' is for preset = \"mcp\" only"),
        ('[agents.c]\npreset = "mcp"\ntool = "t"', "without a server or its tool"),
        (MCP + 'model = "m"', "its tool is not told of a model"),
        (MCP + 'tool_arguments = {a = ["{promt}"]}', "did you mean '{prompt}'?"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(text)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "sk-1" not in str(refused.value)


def test_a_task_may_name_a_model_only_where_the_agent_can_be_told_of_it() -> None:
    chat = config(CHAT).agents["c"]
    assert model_problem(chat, "b") == ""
    assert "'c' is not allowed" in model_problem(chat, "c")
    assert model_problem(Profile(preset="codex"), "any") == ""
    assert model_problem(Profile(), "any") != ""
    tool = config(MCP + 'tool_arguments = {deep = [{m = "{model}"}]}').agents["c"]
    assert model_problem(tool, "any") == ""
    assert model_problem(config(MCP.replace('"t"', '"codex"')).agents["c"], "any") == ""


@pytest.mark.parametrize(("intensity", "dollars"), [("low", 0.5), ("medium", 1.0), ("high", 1.5)])
def test_the_intensity_says_how_much_of_the_budgets_a_request_may_use(
    intensity: str, dollars: float
) -> None:
    budgets = f'min_budget = 0.5\nmax_budget = 1.5\nintensity = "{intensity}"\n'
    told = config(CHAT + budgets + PRICES)
    assert allowance_of(told.agents["c"], told.prices) == Allowance(dollars, 1, 10)
    assert allowance_of(config(CHAT).agents["c"], {}) is None


def test_an_answer_is_as_long_as_the_rest_of_the_money_allows() -> None:
    assert most_tokens(None, 10**9) is None
    assert most_tokens(Allowance(1.0, 1.0, 10.0), 300_000) == 90_000
    assert most_tokens(Allowance(0.01, 1.0, 10.0), 300_000) == 0
    assert most_tokens(Allowance(1.0, 0.0, 0.0), 1) is None


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_comes_back_as_it_was_told(event: Event) -> None:
    line = json.dumps(event.document())
    assert event_in(json.loads(line)) == event


@pytest.mark.parametrize("told", [{}, {"kind": "no"}, {"kind": "end"}, {"kind": "error"}])
def test_what_is_no_event_is_none(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no event"):
        event_in(told)


def test_a_model_that_is_not_allowed_is_not_asked_whoever_named_it(tmp_path: Path) -> None:
    adapter = ADAPTERS["chat"].of(config(CHAT).agents["c"])
    call = replace(call_in(tmp_path), model="z", allowance=Allowance(1.0, 2.0, 3.0))
    assert adapter.invoke(call).arguments == (
        "--base-url=http://x/v1",
        "--model=z",
        "--problem=the model 'z' is not allowed; 'models' names a, b",
        "--allowance=1.0 2.0 3.0",
    )


def test_the_server_of_a_tool_stands_behind_what_is_ours(tmp_path: Path) -> None:
    call = replace(call_in(tmp_path), command=("serve", "--model=x"))
    adapter = ADAPTERS["mcp"].of(config(MCP).agents["c"])
    assert adapter.invoke(call).arguments == (
        *("--tool=t", '--arguments={"prompt": "{prompt}"}', "--", "serve", "--model=x"),
    )
    codex = ADAPTERS["mcp"].of(config(MCP.replace('"t"', '"codex"')).agents["c"])
    given = codex.invoke(replace(call, model="m")).arguments[1].partition("=")[2]
    assert json.loads(given)["approval-policy"] == "never"
    assert json.loads(given)["model"] == "{model}"


def test_what_is_put_into_arguments_is_never_read_again() -> None:
    values = {"prompt": "say {model}", "model": "{prompt}"}
    told = {"a": "{prompt}", "b": [1, {"c": "{model}!"}], "d": None}
    assert filled(told, values) == {"a": "say {model}", "b": [1, {"c": "{prompt}!"}], "d": None}


@pytest.mark.parametrize(
    ("answer", "diff"),
    [
        ("Nothing.", b""),
        ("```diff\n```", b""),
        ("Done.\n```diff\n--- a/x\n+++ b/x\n```\nThat is it.", b"--- a/x\n+++ b/x\n"),
        ("```diff\r\n--- a/x\r\n```\r\n", b"--- a/x\n"),
        ("````patch\n+```\n````\n", b"+```\n"),
        ("```diff\none\n```\n```diff\ntwo\n```", b"one\ntwo\n"),
        ("```python\nx\n```\n~~~ Diff\n+y\n~~~", b"+y\n"),
        ("```diff\n+ends without a fence", b"+ends without a fence\n"),
    ],
)
def test_the_diff_of_an_answer_is_what_stands_in_its_fences(answer: str, diff: bytes) -> None:
    assert diff_in(answer) == diff


def test_a_question_and_a_summary_are_found() -> None:
    assert question_in("**Needs human:** Which?") == "Which?"
    assert question_in("I asked: NEEDS HUMAN: no") == ""
    assert first_line("```diff\n+x\n```\n\n# I did it.\n") == "I did it."


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ("<html>log in</html>", AgentOutcome.UNREACHABLE),
        ({"choices": []}, AgentOutcome.UNREACHABLE),
        ({"choices": [{"message": {"content": " "}}]}, AgentOutcome.UNREACHABLE),
        ({"choices": [{"message": {"content": "", "refusal": "No."}}]}, AgentOutcome.REFUSED),
        ({"choices": [{"finish_reason": "content_filter"}]}, AgentOutcome.REFUSED),
    ],
)
def test_what_is_no_answer_is_a_failure(told: object, outcome: AgentOutcome) -> None:
    found = read_answer(told, "m")
    assert isinstance(found, Failure)
    assert found.outcome == outcome


def test_an_answer_tells_its_tokens_and_whether_it_was_cut_off() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "cost": 0.5, **details}
    whole = read_answer({"choices": [COMPLETION], "usage": usage}, "m")
    assert whole == Answer("Yes.", Usage(9, 4, 3, 0.5, "m"), cut_off=False)
    cut = read_answer({"choices": [COMPLETION | {"finish_reason": "length"}]}, "m")
    assert isinstance(cut, Answer)
    assert cut.cut_off


def test_openai_itself_is_told_the_limit_under_its_own_name() -> None:
    question = Question("https://api.openai.com/v1", "", "m", (), 5)
    assert question.body["max_completion_tokens"] == 5
    assert replace(question, base_url="http://127.0.0.1/v1").body["max_tokens"] == 5
    assert "max_tokens" not in replace(question, max_tokens=None).body


def test_what_codex_tells_on_its_way_is_understood() -> None:
    def told(**message: object) -> list[Event]:
        return events_of({"method": "codex/event", "params": {"msg": message}})

    used = {"input_tokens": 5, "cached_input_tokens": 1, "output_tokens": 2}
    count = {"total_token_usage": used, "last_token_usage": used}
    call = {"type": "function_call", "name": "exec_command", "arguments": "{}"}
    assert told(type="session_configured", session_id="s", model="m") == [Session("s", "m")]
    assert told(type="agent_message", message="Done.") == [Message("Done.")]
    assert told(type="token_count", info=count) == [Usage(5, 1, 2, total=True)]
    assert told(type="token_count", info=None) == []
    assert told(type="raw_response_item", item=call) == [ToolCall("exec_command", "{}")]
    words = {"message": "Reconnecting... 1/2", "additional_details": "429 Too Many Requests"}
    assert told(type="stream_error", **words) == [Limit("429 Too Many Requests", quota=False)]
    assert told(type="error", message="401 Unauthorized") == [
        Failure("401 Unauthorized", AgentOutcome.AUTH)
    ]
    assert told(type="raw_response_item", item={"type": "function_call"}) == []
    assert events_of({"method": "codex/event", "params": None}) == []


def test_the_result_of_a_tool_is_its_text_or_a_failure() -> None:
    text = {"type": "text", "text": "429 Too Many Requests"}
    assert result_of({"content": [text]}) == [Message(text["text"]), End(ok=True)]
    limit, end = result_of({"content": [text], "isError": True})
    assert limit == Limit(text["text"], quota=False)
    assert end == End(ok=False, text=text["text"])
    assert result_of({"content": []}) == [Message("(no text)"), End(ok=True)]
