"""The way out of a box through the proxy that the daemon's own environment names."""

import base64
from collections.abc import Iterator

import anyio
import pytest
from anyio.abc import SocketStream
from blockbuster import blockbuster_ctx
from egress_bed import World, all_of, client, head_of, request_of, said, served, tunnel
from egress_bed import answer as response

from alluvium_like.sandbox.upstream import upstream_of


@pytest.fixture(autouse=True)
def _never_blocks() -> Iterator[None]:
    with blockbuster_ctx("alluvium_like"):
        yield


async def hello(link: SocketStream) -> None:
    await request_of(link)
    await link.send(response(b"hello"))


@pytest.mark.parametrize(
    ("environment", "tunnelled", "web"),
    [
        ({}, "", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1", "http://p:1"),
        ({"https_proxy": "p:1", "HTTPS_PROXY": "q:1"}, "http://p:1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "http_proxy": "http://q:1"}, "http://p:1", "http://q:1"),
        ({"ALL_PROXY": "http://p:1"}, "http://p:1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example, .model.example"}, "", ""),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "EXAMPLE"}, "", ""),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*.example:443"}, "", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "del.example,"}, "http://p:1", "http://p:1"),
    ],
)
def test_the_variables_mean_what_they_mean_everywhere(
    environment: dict[str, str], tunnelled: str, web: str
) -> None:
    assert upstream_of(environment, "model.example", 443, web=False) == tunnelled
    assert upstream_of(environment, "model.example", 80, web=True) == web


async def test_what_is_allowed_goes_through_it_and_is_looked_up_there() -> None:
    company, here = World(), World()
    async with (
        company.server(hello, "plain.example", port=80),
        company.egress("plain.example") as upstream,
        here.egress(
            "*.example", environment={"HTTPS_PROXY": f"http://127.0.0.1:{upstream}"}
        ) as port,
        client(port) as http,
    ):
        assert (await http.get("http://plain.example/")).text == "hello"
        async with await tunnel(port, "plain.example:80") as link:
            await link.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await head_of(link)).endswith(b"hello")
        assert b"502" in await said(port, b"CONNECT other.example:443 HTTP/1.0\r\n\r\n")
        assert b"403" in await said(port, b"CONNECT other.test:443 HTTP/1.0\r\n\r\n")
    assert (here.looked_up, here.connected) == ([], [])
    assert [told[:2] for told in here.refused] == [("other.test", 443)]
    assert company.looked_up == ["plain.example"] * 2


async def test_it_is_told_its_credentials_and_may_speak_at_once() -> None:
    heads: list[bytes] = []

    async def proxy(link: SocketStream) -> None:
        heads.append(await head_of(link))
        await link.send(b"HTTP/1.1 200 OK\r\n\r\nbanner")

    world = World()
    async with served(proxy) as upstream:
        environment = {"HTTPS_PROXY": f"http://me:p%40ss@127.0.0.1:{upstream}"}
        async with (
            world.egress("ssh.example:22", environment=environment) as port,
            await anyio.connect_tcp("127.0.0.1", port) as link,
        ):
            await link.send(b"CONNECT ssh.example:22 HTTP/1.0\r\n\r\n")
            assert (await all_of(link)).endswith(b"\r\n\r\nbanner")
    told = base64.b64encode(b"me:p@ss")
    assert heads[0].startswith(b"CONNECT ssh.example:22 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + told in heads[0]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0\r\n\r\n", b""]
)
async def test_what_it_does_not_do_is_no_refusal(answer: bytes) -> None:
    async def proxy(link: SocketStream) -> None:
        await head_of(link)
        await link.send(answer)

    world = World()
    async with served(proxy) as upstream:
        environment = {"https_proxy": f"http://me:secret@127.0.0.1:{upstream}"}
        async with world.egress("a.example", environment=environment) as port:
            told = await said(port, b"CONNECT a.example:443 HTTP/1.0\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 502 ")
    assert b"the proxy of the daemon's environment" in told
    assert b"secret" not in told
    assert world.refused == []


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://[::1", "http://a:b", "http://"])
async def test_one_of_another_kind_is_not_used(url: str) -> None:
    world = World()
    async with world.egress("a.example", environment={"https_proxy": url}) as port:
        told = await said(port, b"CONNECT a.example:443 HTTP/1.0\r\n\r\n")
    assert b"the proxy of the daemon's environment is none of http" in told


async def test_an_endpoint_of_this_machine_is_not_asked_of_it() -> None:
    world = World()
    async with served(hello) as real:
        world.ports["127.0.0.1", real] = real
        environment = {"https_proxy": "http://127.0.0.1:1"}
        async with (
            world.egress(f"localhost:{real}", environment=environment) as port,
            await tunnel(port, f"127.0.0.1:{real}") as link,
        ):
            await link.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await head_of(link)).endswith(b"hello")
