"""The way out of a box: what is not allowed or not understood goes nowhere."""

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from egress_bed import OK, PUBLIC, World, connect, echo, get, said, served, tunnel

from alluvium_like.sandbox.egress import Bounds


@pytest.fixture(autouse=True)
def _never_blocks() -> Iterator[None]:
    with blockbuster_ctx("alluvium_like"):
        yield


@pytest.fixture
def world() -> World:
    """Where one host is well and answers nothing."""
    return World(names={OK: [PUBLIC]})


@pytest.mark.parametrize(
    "where",
    [
        "unlisted.example:443",
        f"{OK}:8443",
        f"{OK}.unlisted.example:443",
        f"x{OK}:443",
        "127.0.0.1:22",
        "127.0.0.1:11435",
        "localhost:22",
        "LocalHost.:22",
        "web.localhost:22",
        "[::1]:22",
        "0.0.0.0:22",
        "[::]:22",
        "169.254.169.254:80",
        "10.0.0.1:443",
        "198.51.100.7:443",
        "127.1:11434",
        "0x7f.1:11434",
        "0177.0.0.1:11434",
        "2130706433:11434",
        "127.0.0.1.:11434",
        "[::ffff:127.0.0.1]:11434",
        "[::ffff:7f00:1]:11434",
        "[64:ff9b::7f00:1]:11434",
        "[2002:7f00:1::]:11434",
        "*.example:443",
    ],
)
async def test_what_is_not_listed_is_neither_looked_up_nor_reached(
    world: World, where: str
) -> None:
    async with world.egress(OK, "127.0.0.1:11434") as port:
        for request in (connect(where), get(f"http://{where}/latest/meta-data")):
            told = await said(port, request)
            assert told.startswith(b"HTTP/1.1 403 ")
            assert where.encode() + b" is not allowed: " in told
            assert b"[sandbox].hosts" in told
    assert (world.looked_up, world.connected) == ([], [])
    assert len(world.refused) == 1


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n",
        b"\0\1\2\3\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.example\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: ok.example\r\n\r\n",
        b"GET http://ok.example/\r\n\r\n",
        b"GET http://ok.example/ HTTP/1.1\r\n\r\n",
        b"GET http://ok.example/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://ok.example/ a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://ok.example/ HTTP/1.1\r\nHost: a\r\nX: a\rX-Y: b\r\n\r\n",
        b"GET http://ok.example/ HTTP/1.1\r\nHost: a\r\nX: a\0\r\n\r\n",
        b"GET http://ok.example/ HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        b"POST http://ok.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST http://ok.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\nxx",
        b"POST http://ok.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nxx",
        b"CONNECT ok.example HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT ok.example:0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT ok.example:65536 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT ok.example:443/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT user@ok.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT http://ok.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT :443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT [ok.example]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        *(
            b"GET %b HTTP/1.1\r\nHost: ok.example\r\n\r\n" % url
            for url in (
                *(b"https://ok.example/", b"ftp://ok.example/", b"//ok.example/", b"http:///"),
                *(b"http://ok.example@other.example/", b"http://other.example\\@ok.example/"),
                *(b"http://ok.example:80:80/", b"http://ok.example:/", b"http://ok.example/#x"),
                *(b"http://ok.example%2f/", b"http:ok.example/"),
            )
        ),
    ],
)
async def test_what_is_not_understood_is_not_sent_on(world: World, request_: bytes) -> None:
    async with world.egress(OK) as port:
        assert (await said(port, request_)).startswith(b"HTTP/1.1 400 ")
    assert (world.looked_up, world.connected, world.refused) == ([], [], [])


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "fe80::1%2", "224.0.0.1"),
        *("::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "203.0.113.9"),
    ],
)
@pytest.mark.parametrize("pattern", [OK, "*.example"])
async def test_a_name_never_leads_to_this_machine(world: World, address: str, pattern: str) -> None:
    world.own = ["203.0.113.9"]
    world.names[OK] = [address]
    async with world.egress(pattern) as port:
        for request in (connect(f"{OK}:443"), get(f"http://{OK}/")):
            told = await said(port, request)
            assert told.startswith(b"HTTP/1.1 403 ")
            assert f"the name leads to {address}, which is this machine's".encode() in told
    assert world.connected == []
    assert [refused[:2] for refused in world.refused] == [(OK, 443), (OK, 80)]


async def test_what_is_connected_to_is_what_was_judged(world: World) -> None:
    world.names[OK] = ["127.0.0.1", PUBLIC, "::1"]
    async with served(echo) as real, world.egress(OK) as port:
        world.ports[PUBLIC, 443] = real
        async with await tunnel(port, f"{OK}:443"):
            assert (world.looked_up, world.connected) == ([OK], [PUBLIC])


async def test_a_private_address_has_to_be_named_by_itself(world: World) -> None:
    world.names |= {"in.corp.example": ["10.1.2.3"], "db.corp.example": ["10.1.2.3"]}
    async with served(echo) as real, world.egress("*.corp.example", "in.corp.example") as port:
        world.ports["10.1.2.3", 443] = real
        async with await tunnel(port, "in.corp.example:443"):
            pass
        told = await said(port, connect("db.corp.example:443"))
    assert b"403" in told
    assert b"10.1.2.3, a private address" in told
    assert b"may name db.corp.example itself" in told
    assert world.connected == ["10.1.2.3"]


async def test_a_refusal_is_told_of_once_and_no_more_than_so_many(world: World) -> None:
    async with world.egress(bounds=Bounds(refusals=3)) as port:
        for name in ("a", "b", "A", "a", "c", "d", "e", "b"):
            assert b" 403 " in await said(port, connect(f"{name}.example:443"))
    assert [name for name, *_ in world.refused] == ["a.example", "b.example", "c.example"]
    assert "a.example:443 is not allowed" in world.refused[0][2]


async def test_a_name_that_is_far_too_long_is_told_in_short(world: World) -> None:
    async with world.egress() as port:
        assert b" 403 " in await said(port, connect(f"{'a' * 5_000}.example:443"))
    ((name, _, text),) = world.refused
    assert len(name) < len(text) < 600


async def test_what_is_allowed_and_not_reached_is_no_refusal(world: World) -> None:
    async with world.egress("*.example") as port:
        told = await said(port, connect("nowhere.example:443"))
        assert told.startswith(b"HTTP/1.1 502 ")
        assert b"nowhere.example:443 cannot be reached: Name or service not known" in told
        assert b"cannot be reached: Connection refused" in await said(port, get(f"http://{OK}/"))
    assert world.refused == []
