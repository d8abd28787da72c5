"""The head of a request to the proxy: what is asked, or the answer to what cannot be.

Pure. `h11` reads it; what it would let pass though two readers could take it differently is refused
here. Of a request that is not for a tunnel the head is written anew from what was understood: the
next server sees nothing that was not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import h11

_REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
}
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\\?#%]+)(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(r"http://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)
_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"te", b"upgrade", b"host", b"http2-settings"}
)
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"trailer"})
"""What says where the body ends: it goes on as it came, and so does the body."""
_LAST_PORT: Final = 65535
_LONGEST_SHOWN: Final = 255
_HTTP_PORT: Final = 80
_NO_PROXY_REQUEST: Final = "this is a proxy: ask for CONNECT host:port, or for http://host/path"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: for a tunnel where `head` is None, else what the host is to be sent.

    `rest` is what came behind the head already.
    """

    host: str
    port: int
    head: bytes | None
    rest: bytes

    @property
    def shown(self) -> str:
        """The host as it is told to people: a head may hold a very long one."""
        return self.host[:_LONGEST_SHOWN]

    @property
    def where(self) -> str:
        """The endpoint as it is told to people."""
        return f"{self.shown}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the proxy itself answers, in one line of text."""

    status: int
    text: str

    def encoded(self) -> bytes:
        """Return it as a response. Its first line holds the text: many programs show no other."""
        line = re.sub(r"[^ -~]", "?", self.text)
        body = f"{self.text}\n".encode(errors="replace")
        reason = f"{_REASONS[self.status]} ({line})"
        head = (
            f"HTTP/1.1 {self.status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


class HeadReader:
    """Takes a request's first bytes until its head is whole, or longer than it may be."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fed = 0
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)

    def feed(self, data: bytes) -> Asked | Answer | None:
        """Return what is known with these bytes, None where it takes more."""
        self._fed += len(data)
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            return Answer(431 if error.error_status_hint == 431 else 400, str(error))
        if event is h11.NEED_DATA:
            return None
        rest = self._http.trailing_data[0]
        if not isinstance(event, h11.Request):
            return Answer(400, _NO_PROXY_REQUEST)
        if self._fed - len(rest) > self._limit:
            return Answer(431, f"the head is longer than {self._limit} bytes")
        return _asked(event, rest)


def _asked(request: h11.Request, rest: bytes) -> Asked | Answer:
    target = request.target.decode("ascii")
    if request.method == b"CONNECT":
        host, port = _endpoint(target)
        return Asked(host, port, None, rest) if port else Answer(400, "no host:port to connect to")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return Answer(400, _NO_PROXY_REQUEST)
    host, port = _endpoint(absolute[1], _HTTP_PORT)
    if not port:
        return Answer(400, "an address without a host that can be understood")
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
        return Answer(400, "the body's length is told in two ways")
    path = absolute[2] or "/"
    head = _head(request, path if path.startswith("/") else f"/{path}", absolute[1])
    return Asked(host, port, head, rest)


def _endpoint(authority: str, default: int = 0) -> tuple[str, int]:
    """Return host and port; the port is 0 where there is none, or nothing is understood."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return "", 0
    port = default if found[2] is None else int(found[2])
    host = found[1]
    return host, port if port <= _LAST_PORT else 0


def _head(request: h11.Request, path: str, authority: str) -> bytes:
    lines = [b"%b %b HTTP/%b" % (request.method, path.encode(), request.http_version)]
    lines.append(b"Host: " + authority.encode())
    lines += [b"%b: %b" % pair for pair in _passed_on(request)]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def _passed_on(request: h11.Request) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers that are not for the proxy alone."""
    named = {
        option.strip().lower()
        for name, value in request.headers
        if name == b"connection"
        for option in value.split(b",")
    }
    for spelled, value in request.headers.raw_items():
        name = spelled.lower()
        if name in _FRAMING or not (name in _HOP or name in named or name.startswith(b"proxy-")):
            yield spelled, value
