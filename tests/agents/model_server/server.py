"""The server: reads a request, asks the script what follows, lets the wire say it.

Loopback only, one thread a connection; `close` ends the endless streams, too. What was asked is
kept in `requests`, so that a test can tell what an agent really sent.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import urlsplit

from model_server import anthropic, chat, gemini, responses
from model_server.script import Case, Json, Script
from model_server.wire import Answer, Asked, Failure, Wire, shell_call

WIRES: tuple[Wire, ...] = (chat, responses, anthropic, gemini)
_COUNTING = ("/count_tokens", ":countTokens")


@dataclass(frozen=True)
class Request:
    """One request for an answer; `key` is what its key's header held, if it had one."""

    path: str
    key: str | None
    asked: Asked
    body: Json

    def holds(self, text: str) -> bool:
        """Tell whether any string of the body contains a text, however deep it lies."""
        return any(text in each for each in _strings(self.body))


class ModelServer:
    """A model that plays a script at `url`; the script may be exchanged between two requests."""

    def __init__(
        self, script: Script, port: int = 0, on_request: Callable[[Request], None] | None = None
    ) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._on_request = on_request
        self._limited = 0
        self._counting = threading.Lock()
        self._http = _Server(("127.0.0.1", port), self)

    @property
    def url(self) -> str:
        """The address without a path, where every wire answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return self._http.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def serve(self) -> None:
        """Answer until `close`."""
        self._http.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """End the streams, then the server, which must be serving."""
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def note(self, request: Request) -> None:
        """Keep what was asked."""
        self.requests.append(request)
        if self._on_request:
            self._on_request(request)

    def decide(self, request: Request) -> tuple[Case, Answer]:
        """Return the case that holds for a request, and the answer where it is none of an error."""
        script, asked = self.script, request.asked
        side = next((said for part, said in script.side.items() if request.holds(part)), None)
        if side is not None:
            return Case.OK, Answer(asked.model, script.usage, side)
        case = script.case if asked.calls >= script.after else Case.OK
        if case is Case.RATE_LIMITED and not self._is_limited():
            case = Case.OK
        if case is Case.REFUSED:
            return case, Answer(asked.model, script.usage, "I cannot help with that.", refused=True)
        if case is Case.ENDLESS:
            return case, Answer(asked.model, script.usage, "and so on ")
        return case, self._next_step(asked)

    def _is_limited(self) -> bool:
        with self._counting:
            self._limited += 1
            return self._limited <= self.script.times

    def _next_step(self, asked: Asked) -> Answer:
        script = self.script
        if asked.calls >= len(script.commands):
            return Answer(asked.model, script.usage, script.text)
        if not asked.tools:
            return Answer(asked.model, script.usage, script.side_text)
        call = shell_call(asked.tools, script.commands[asked.calls])
        if call is None:
            names = ", ".join(asked.tools)
            return Answer(asked.model, script.usage, f"There is no shell among the tools: {names}")
        return Answer(asked.model, script.usage, call=call)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: ModelServer) -> None:
        self.model = model
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    _FAILURES: ClassVar = {
        Case.UNAUTHORIZED,
        Case.RATE_LIMITED,
        Case.QUOTA,
        Case.CONTEXT,
        Case.SERVER_ERROR,
    }

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: what was asked is in `requests`."""

    def do_HEAD(self) -> None:
        self._send(Failure(200, {}))

    def do_GET(self) -> None:
        """List one model, for those that look before they ask; there are no websockets."""
        if self.headers.get("upgrade"):
            self._send(Failure(426, {"error": {"message": "only HTTP is spoken here"}}))
            return
        model = {"id": "scripted", "object": "model", "created": 0, "owned_by": "scripted"}
        self._send(Failure(200, {"object": "list", "data": [model], "models": []}))

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, json.loads(self._body() or b"{}")
        wire = next((each for each in WIRES if each.serves(path)), None)
        try:
            if path.endswith(_COUNTING):
                tokens = self.server.model.script.usage.input
                self._send(Failure(200, {"input_tokens": tokens, "totalTokens": tokens}))
            elif wire is None:
                self._send(Failure(404, {"error": {"message": f"no model answers at {path}"}}))
            else:
                self._answer(wire, path, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the agent hung up

    def _answer(self, wire: Wire, path: str, body: Json) -> None:
        model = self.server.model
        keys = (self.headers.get(name) for name in wire.KEY_HEADERS)
        request = Request(path, next(filter(None, keys), None), wire.read(path, body), body)
        model.note(request)
        case, answer = model.decide(request)
        if case in self._FAILURES:
            self._send(wire.failure(model.script, time.time()))
        elif request.asked.stream:
            self._stream(wire, case, answer)
        else:
            self._whole(wire, case, answer)

    def _stream(self, wire: Wire, case: Case, answer: Answer) -> None:
        self._begin("text/event-stream")
        stream = wire.stream(answer)
        for event in (*stream.opening, stream.delta):
            self._say(event)
        if case is Case.BROKEN:
            self._say(stream.delta[: len(stream.delta) // 2])
        elif case is Case.ENDLESS:
            self._repeat(stream.delta)
        else:
            for event in stream.closing:
                self._say(event)
            self._end()

    def _whole(self, wire: Wire, case: Case, answer: Answer) -> None:
        if case not in {Case.BROKEN, Case.ENDLESS}:
            self._send(Failure(200, wire.whole(answer)))
            return
        self._begin("application/json")
        text = json.dumps(wire.whole(answer)).encode()
        self._say(text[: len(text) // 2])
        if case is Case.ENDLESS:
            self._repeat(b" ")

    def _repeat(self, part: bytes) -> None:
        script = self.server.model.script
        for _ in range(script.deltas):
            if self.server.model.closing.wait(script.interval):
                return
            self._say(part)

    def _begin(self, kind: str) -> None:
        """Begin a body in chunks: one that is not ended by its last chunk is seen to be broken."""
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()

    def _say(self, part: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, answer: Failure) -> None:
        text = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
