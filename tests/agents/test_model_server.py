"""The scripted model server: what the other tests of agents stand on."""

import http.client
import json
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from model_server.script import Case, Json, Script, Usage
from model_server.server import ModelServer

SHELL = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
GEMINI = "/v1beta/models/scripted:"


class Said(NamedTuple):
    """An answer of the server: `whole` is False where the connection broke off."""

    status: int
    headers: dict[str, str]
    text: str
    whole: bool


def body(wire: str, *, calls: int = 0, tools: bool = True, stream: bool = True) -> tuple[str, Json]:
    """Return the path and the body of a request as an agent would send it."""
    function = {"name": "bash", "parameters": SHELL}
    told: Json = {"model": "scripted", "stream": stream}
    match wire:
        case "chat":
            call = {"role": "assistant", "tool_calls": [{"function": {"name": "bash"}}]}
            told["messages"] = [{"role": "user", "content": "Begin."}, *[call] * calls]
            tool: Json = {"type": "function", "function": function}
            path = "/v1/chat/completions"
        case "responses":
            told["input"] = [{"role": "user", "content": "Begin."}]
            told["input"] += [{"type": "function_call", "name": "bash"}] * calls
            tool = {"type": "function"} | function
            path = "/v1/responses"
        case "anthropic":
            use = {"role": "assistant", "content": [{"type": "tool_use", "name": "bash"}]}
            told["messages"] = [{"role": "user", "content": "Begin."}, *[use] * calls]
            tool = {"name": "bash", "input_schema": SHELL}
            path = "/v1/messages"
        case _:
            part = {"role": "model", "parts": [{"functionCall": {"name": "bash"}}]}
            told["contents"] = [{"role": "user", "parts": [{"text": "Begin."}]}, *[part] * calls]
            tool = {"functionDeclarations": [function]}
            path = GEMINI + ("streamGenerateContent?alt=sse" if stream else "generateContent")
    return path, told | ({"tools": [tool]} if tools else {})


def ask(server: ModelServer, path: str, told: Json) -> Said:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        connection.request("POST", path, json.dumps(told), {"authorization": "Bearer test"})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        try:
            return Said(answer.status, headers, answer.read().decode(), True)
        except http.client.IncompleteRead as cut:
            return Said(answer.status, headers, cut.partial.decode(), False)
    finally:
        connection.close()


@pytest.fixture(params=["chat", "responses", "anthropic", "gemini"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("stream", [True, False])
def test_the_history_chooses_the_step(wire: str, stream: bool) -> None:
    script = Script(commands=("touch one", "touch two"), text="All done.", usage=Usage(4321, 65, 7))
    with ModelServer(script) as server:
        said = [ask(server, *body(wire, calls=calls, stream=stream)) for calls in range(3)]
        aside = ask(server, *body(wire, tools=False, stream=stream))
        first = server.requests[0]
    assert [each.status for each in said] == [200, 200, 200]
    for each, part in zip(said, ("touch one", "touch two", "All done."), strict=True):
        assert part in each.text
        assert each.whole
    assert "65" in said[2].text
    assert "A short title" in aside.text
    assert (first.asked.model, first.key, first.holds("Begin")) == ("scripted", "Bearer test", True)
    assert not first.holds("another")


@pytest.mark.parametrize("case", [Case.UNAUTHORIZED, Case.QUOTA, Case.CONTEXT, Case.SERVER_ERROR])
def test_an_error_is_told_as_the_provider_tells_it(wire: str, case: Case) -> None:
    with ModelServer(Script(case=case, resets_at=int(time.time()) + 3600)) as server:
        said = ask(server, *body(wire))
    statuses = {
        Case.UNAUTHORIZED: 400 if wire == "gemini" else 401,
        Case.QUOTA: 429,
        Case.CONTEXT: 400,
        Case.SERVER_ERROR: 500,
    }
    assert said.status == statuses[case]
    assert "message" in json.loads(said.text)["error"]


def test_a_burst_passes_and_trouble_waits_for_its_step(wire: str) -> None:
    script = Script(case=Case.RATE_LIMITED, times=2, after=1, commands=("touch one",))
    with ModelServer(script) as server:
        early = ask(server, *body(wire))
        statuses = [ask(server, *body(wire, calls=1)).status for _ in range(3)]
    assert early.status == 200
    assert statuses == [429, 429, 200]


@pytest.mark.parametrize("stream", [True, False])
def test_a_broken_stream_ends_in_mid_event(wire: str, stream: bool) -> None:
    with ModelServer(Script(case=Case.BROKEN)) as server:
        said = ask(server, *body(wire, stream=stream))
    assert said.status == 200
    assert not said.whole
    assert not said.text.endswith(("\n\n", "}"))


def test_an_endless_stream_goes_on_to_its_bound(wire: str) -> None:
    script = Script(case=Case.ENDLESS, interval=0.001, deltas=50)
    with ModelServer(script) as server:
        said = ask(server, *body(wire))
    assert said.text.count("and so on") > 50
    assert not said.whole


def test_closing_the_server_ends_an_endless_stream(wire: str) -> None:
    server = ModelServer(Script(case=Case.ENDLESS, interval=3600)).__enter__()
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    path, told = body(wire)
    connection.request("POST", path, json.dumps(told))
    answer = connection.getresponse()
    server.close()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


def test_a_refusal_has_the_name_that_the_wire_gives_it(wire: str) -> None:
    names = {"anthropic": "refusal", "gemini": "SAFETY"}
    with ModelServer(Script(case=Case.REFUSED)) as server:
        said = ask(server, *body(wire))
    assert names.get(wire, "content_filter") in said.text
    assert said.whole


def test_a_side_request_gets_its_own_text(wire: str) -> None:
    with ModelServer(Script(commands=("true",), side={"Begin": "Add a thing"})) as server:
        said = ask(server, *body(wire))
    assert "Add a thing" in said.text


def test_a_script_is_read_from_json_and_a_word_unknown_is_refused(tmp_path: Path) -> None:
    told = {"commands": ["true"], "case": "quota", "resets_at": 5, "usage": {"input": 1}}
    path = tmp_path / "case.json"
    path.write_text(json.dumps(told))
    assert Script.load(path) == Script(("true",), case=Case.QUOTA, resets_at=5, usage=Usage(1))
    path.write_text(json.dumps({"case": "quotas"}))
    with pytest.raises(ValueError, match="quotas"):
        Script.load(path)
    path.write_text(json.dumps({"command": ["true"]}))
    with pytest.raises(TypeError, match="command"):
        Script.load(path)
