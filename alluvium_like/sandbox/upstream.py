"""The proxy that the daemon's own environment names, as behind a company's: tunnels go through it.

Its variables mean what they mean everywhere. What it looks up itself is its own business; its
address is not checked, and its credentials are told to nobody else.
"""

from base64 import b64encode
from collections.abc import Mapping
from socket import SOCK_STREAM
from urllib.parse import unquote, urlsplit

import anyio
import h11
from anyio.abc import SocketStream

from alluvium_like.sandbox.relay import GONE, close_all, connect_first


def upstream_of(environment: Mapping[str, str], host: str, port: int, *, web: bool) -> str:
    """Return the proxy to go through, empty for the straight way. `web`: not for a tunnel."""

    def named(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    first, second = ("http_proxy", "https_proxy") if web else ("https_proxy", "http_proxy")
    url = named(first) or named("all_proxy") or named(second)
    if not url or _is_excepted(host, port, named("no_proxy")):
        return ""
    return url if "://" in url else f"http://{url}"


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Tell whether a name, one above it, or all are excepted, with the port or without."""
    for each in exceptions.replace(",", " ").lower().split():
        end = "." + each.removeprefix("*").removeprefix(".")
        if each == "*" or f".{host}".endswith(end) or f".{host}:{port}".endswith(end):
            return True
    return False


async def tunnel(proxy: str, host: str, port: int) -> tuple[SocketStream, bytes]:
    """Return a tunnel to a host, and what came out of it already. OSError where there is none."""
    try:
        parts = urlsplit(proxy)
        place = (parts.hostname or "", parts.port or 80)
    except ValueError:
        place = ("", 0)
    if not place[0] or parts.scheme != "http":
        raise OSError("the proxy of the daemon's environment is none of http")
    found = await anyio.getaddrinfo(*place, type=SOCK_STREAM)
    link = await connect_first([str(address[0]) for *_, address in found], place[1])
    try:
        name = f"[{host}]" if ":" in host else host
        headers = [("Host", f"{name}:{port}")]
        if parts.username:
            told = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers.append(("Proxy-Authorization", f"Basic {b64encode(told.encode()).decode()}"))
        http = h11.Connection(h11.CLIENT)
        request = h11.Request(method="CONNECT", target=f"{name}:{port}", headers=headers)
        await link.send(http.send(request) or b"")
        while (answer := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await link.receive())
        if not isinstance(answer, h11.Response) or not 200 <= answer.status_code < 300:
            code = getattr(answer, "status_code", "nothing")
            raise OSError(f"the proxy of the daemon's environment answers {code}")
        return link, http.trailing_data[0]
    except BaseException as error:
        await close_all([link])
        if isinstance(error, (*GONE, h11.RemoteProtocolError)):
            raise OSError("the proxy of the daemon's environment ends the connection") from error
        raise
