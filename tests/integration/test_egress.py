"""The way out of a box: what is allowed goes through as if nobody stood between."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream
from anyio.streams.tls import TLSStream
from blockbuster import blockbuster_ctx
from egress_bed import (
    World,
    all_of,
    answer,
    client,
    head_of,
    request_of,
    said,
    served,
    tunnel,
)

from alluvium_like.config.hosts import parse_host
from alluvium_like.sandbox.egress import resolve
from alluvium_like.sandbox.relay import connect_first


@pytest.fixture(autouse=True)
def _never_blocks() -> Iterator[None]:
    with blockbuster_ctx("alluvium_like"):
        yield


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that has signed itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    name = ("-subj", "/CN=model.example", "-addext", "subjectAltName=DNS:model.example")
    subprocess.run(
        [*making.split(), *name, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def echo(link: SocketStream) -> None:
    """Answer a request with its own first line, headers and body."""
    request, body = await request_of(link)
    lines = [b"%b %b" % (request.method, request.target)]
    lines += [b"%b: %b" % pair for pair in request.headers.raw_items()]
    await link.send(answer(b"\n".join([*lines, body])))


async def test_a_plain_request_is_written_anew_for_its_host(world: World) -> None:
    async with (
        world.server(echo, "plain.example", port=80),
        world.egress("plain.example") as port,
        client(port) as http,
    ):
        headers = {"Proxy-Authorization": "x", "Connection": "keep-alive, X-Mine", "X-Mine": "1"}
        told = await http.post("http://plain.example/a?b=c", headers=headers, content=b"body")
    lines = told.text.split("\n")
    assert (lines[0], lines[-1]) == ("POST /a?b=c", "body")
    names = [line.partition(":")[0].lower() for line in lines[1:-1]]
    assert sorted(set(names)) == sorted(names)
    assert {"Host: plain.example", "Connection: close", "Content-Length: 4"} <= set(lines)
    assert not {"proxy-authorization", "x-mine", "proxy-connection"} & set(names)


async def test_a_body_in_chunks_goes_as_it_comes(world: World) -> None:
    async def pieces() -> object:
        yield b"one "
        yield b"two"

    async with (
        world.server(echo, "plain.example", port=8080),
        world.egress("plain.example:8080") as port,
        client(port) as http,
    ):
        told = await http.post("http://plain.example:8080", content=pieces())  # type: ignore[arg-type]
    assert told.text.startswith("POST /\nHost: plain.example:8080\n")
    assert told.text.endswith("\none two")


async def test_a_second_request_reaches_the_same_host_only(world: World) -> None:
    seen: list[bytes] = []

    async def both(link: SocketStream) -> None:
        seen.append(await all_of(link))

    async with (
        world.server(both, "one.example", port=80),
        world.server(echo, "two.example", port=80),
        world.egress("one.example", "two.example") as port,
        await anyio.connect_tcp("127.0.0.1", port) as link,
    ):
        for name in (b"one", b"two"):
            await link.send(b"GET http://%b.example/ HTTP/1.1\r\nHost: x\r\n\r\n" % name)
        await link.send_eof()
        await all_of(link)
    assert seen[0].startswith(b"GET / HTTP/1.1\r\nHost: one.example\r\n")
    assert seen[0].endswith(b"GET http://two.example/ HTTP/1.1\r\nHost: x\r\n\r\n")
    assert world.looked_up == ["one.example"]


async def test_a_stream_of_a_model_comes_piece_by_piece_through_tls(
    world: World, certificate: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    was_read = anyio.Event()

    async def model(link: SocketStream) -> None:
        tls = await TLSStream.wrap(link, server_side=True, ssl_context=context)
        await request_of(tls)
        await tls.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await was_read.wait()
        await tls.send(b"data: 2\n\n")
        with suppress(anyio.BrokenResourceError):  # the client does not wait for the end
            await tls.aclose()

    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    async with (
        world.server(model, "model.example", port=443),
        world.egress("*.example") as port,
        client(port, verify=trusting) as http,
        http.stream("POST", "https://model.example/v1", content=b"{}") as stream,
    ):
        pieces = stream.aiter_text()
        assert await anext(pieces) == "data: 1\n\n"
        was_read.set()
        assert await anext(pieces) == "data: 2\n\n"
    assert world.refused == []


async def test_either_side_may_end_first(world: World) -> None:
    async def after_you(link: SocketStream) -> None:
        await link.send(b"you had said: " + await all_of(link))

    async def me_first(link: SocketStream) -> None:
        await link.send(b"bye")
        await link.send_eof()
        assert await all_of(link) == b"wait"
        was_heard.set()

    was_heard = anyio.Event()
    async with (
        world.server(after_you, "polite.example", port=443),
        world.server(me_first, "rude.example", port=443),
        world.egress("*.example") as port,
    ):
        async with await tunnel(port, "polite.example:443") as link:
            await link.send(b"this")
            await link.send_eof()
            assert await all_of(link) == b"you had said: this"
        async with await tunnel(port, "rude.example:443") as link:
            assert await all_of(link) == b"bye"
            await link.send(b"wait")
            await link.send_eof()
            await was_heard.wait()


async def test_what_comes_with_the_head_is_not_lost(world: World) -> None:
    async def heard(link: SocketStream) -> None:
        await link.send(await all_of(link))

    async with (
        world.server(heard, "eager.example", port=443),
        world.egress("eager.example") as port,
        await anyio.connect_tcp("127.0.0.1", port) as link,
    ):
        await link.send(b"CONNECT eager.example:443 HTTP/1.1\r\nHost: x\r\n\r\nearly")
        await link.send_eof()
        assert (await all_of(link)).endswith(b"\r\n\r\nearly")


async def test_an_endpoint_of_the_machine_is_forwarded_as_it_is(world: World) -> None:
    async def shout(link: SocketStream) -> None:
        await link.send((await all_of(link)).upper())

    inside = socket.create_server(("127.0.0.1", 0))
    async with served(shout) as real:
        host = parse_host(f"localhost:{real}")
        world.ports["127.0.0.1", real] = real
        async with (
            world.egress(str(host), forwards={host: inside}) as port,
            await anyio.connect_tcp(*inside.getsockname()) as link,
            await tunnel(port, f"localhost:{real}") as through_proxy,
        ):
            for each in (link, through_proxy):
                await each.send(b"\0raw")
                await each.send_eof()
                assert await all_of(each) == b"\0RAW"
    assert inside.fileno() == -1
    assert world.looked_up == []


async def test_a_forward_without_a_server_is_closed_and_serves_the_next(world: World) -> None:
    inside = socket.create_server(("127.0.0.1", 0))
    place = inside.getsockname()
    async with served(echo) as real:
        host = parse_host(f"127.0.0.1:{real}")
        async with world.egress(str(host), forwards={host: inside}):
            async with await anyio.connect_tcp(*place) as link:
                assert await all_of(link) == b""
            world.ports["127.0.0.1", real] = real
            async with await anyio.connect_tcp(*place) as link:
                await link.send(b"GET /x HTTP/1.1\r\nHost: y\r\n\r\n")
                assert b"GET /x" in await head_of(link)


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async with served(echo) as real, await connect_first(["127.0.0.2", "127.0.0.1"], real) as link:
        await link.send(b"GET / HTTP/1.1\r\nHost: y\r\n\r\n")
        assert (await head_of(link)).startswith(b"HTTP/1.1 200 OK")
    with pytest.raises(OSError, match="refused"):
        await connect_first(["127.0.0.2", "127.0.0.1"], real)
    assert "127.0.0.1" in await resolve("localhost", 80)


async def test_an_idle_connection_lives_until_the_run_ends(world: World) -> None:
    async def silent(link: SocketStream) -> None:
        await all_of(link)

    async with world.server(silent, "idle.example", port=443):
        async with world.egress("idle.example") as port:
            link = await tunnel(port, "idle.example:443")
        async with link:
            assert await all_of(link) == b""


async def test_curl_comes_through_and_shows_why_it_does_not(
    world: World, certificate: tuple[Path, Path]
) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def model(link: SocketStream) -> None:
        async with await TLSStream.wrap(link, server_side=True, ssl_context=context) as tls:
            await request_of(tls)
            await tls.send(answer(b"hello"))

    async def fetch(url: str) -> str:
        ended = await anyio.run_process(
            [curl, "-sS", "-i", "--cacert", str(certificate[0]), url],
            env={"http_proxy": proxy, "https_proxy": proxy},
            stderr=subprocess.STDOUT,
            check=False,
        )
        return ended.stdout.decode()

    async with (
        world.server(model, "model.example", port=443),
        world.server(echo, "plain.example", port=80),
        world.egress("model.example", "plain.example") as port,
    ):
        proxy = f"http://127.0.0.1:{port}"
        assert (await fetch("https://model.example/")).endswith("hello")
        assert "GET /path" in await fetch("http://plain.example/path")
        shown = await fetch("http://other.example/")
        assert "other.example:80 is not allowed: [sandbox].hosts in config.toml" in shown
        assert "other.example:443 is not allowed" in await fetch("https://other.example/")
    assert [told[:2] for told in world.refused] == [("other.example", 80), ("other.example", 443)]


async def test_the_proxy_s_own_words_are_a_whole_response(world: World) -> None:
    async with world.egress() as port, client(port) as http:
        told = await http.get("http://other.example/")
        assert (told.status_code, told.headers["connection"]) == (403, "close")
        assert told.text.count("\n") == 1
        assert (await said(port, b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
