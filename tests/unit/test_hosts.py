"""Hosts of config.toml: how they are read, and what each of them allows."""

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from alluvium_like.config.hosts import Host, HostTexts, host_of, parse_host, plain_name
from alluvium_like.sandbox.addresses import Bar, bar_of, own_addresses


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("api.example.org", Host("api.example.org")),
        ("API.Example.ORG.", Host("api.example.org")),
        ("api.example.org:8443", Host("api.example.org", 8443)),
        ("*.example.org", Host("example.org", None, wildcard=True)),
        ("*.example.org:8443", Host("example.org", 8443, wildcard=True)),
        ("bücher.example", Host("xn--bcher-kva.example")),
        ("*.BÜCHER.example:81", Host("xn--bcher-kva.example", 81, wildcard=True)),
        ("straße.example", Host("xn--strae-oqa.example")),
        ("intranet", Host("intranet")),
        ("my_service.internal:5000", Host("my_service.internal", 5000)),
        ("localhost:11434", Host("localhost", 11434)),
        ("web.localhost:3000", Host("web.localhost", 3000)),
        ("127.0.0.1:8080", Host("127.0.0.1", 8080)),
        ("[::1]:8080", Host("::1", 8080)),
        ("[0:0:0:0:0:0:0:1]:8080", Host("::1", 8080)),
        ("192.0.2.7", Host("192.0.2.7")),
        ("192.0.2.7:22", Host("192.0.2.7", 22)),
        ("2001:db8::1", Host("2001:db8::1")),
        ("[2001:DB8:0::1]", Host("2001:db8::1")),
    ],
)
def test_a_host_is_read_into_its_one_spelling(text: str, host: Host) -> None:
    assert parse_host(text) == host
    assert parse_host(str(host)) == host


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("https://api.example.org", "an address with a scheme"),
        ("api.example.org/v1", "an address with a path"),
        ("api.example.org?x", "an address with a path"),
        ("user@api.example.org", "an address with a name to log in with"),
        ("user:word@api.example.org", "an address with a name to log in with"),
        ("api.example.org:0", "not a port"),
        ("api.example.org:65536", "not a port"),
        ("api.example.org:", "not a port"),
        ("api.example.org:http", "not a port"),
        ("api.example.org:+80", "not a port"),
        ("api.example.org:\uff18\uff10", "not a port"),
        ("api..example.org", "not a name"),
        (".example.org", "not a name"),
        ("example.org..", "not a name"),
        ("-a.example.org", "not a name"),
        ("a b.example.org", "not a name"),
        ("a" * 64 + ".example.org", "not a name"),
        ("a." * 130 + "org", "not a name"),
        ("xn--\u2603.ü", "not a name"),
        ("*", "a pattern that is not '*.' and a name"),
        ("*:443", "a pattern that is not '*.' and a name"),
        ("*.", "not a name"),
        ("*.*.org", "a pattern that is not '*.' and a name"),
        ("api.*.org", "a pattern that is not '*.' and a name"),
        ("*example.org", "a pattern that is not '*.' and a name"),
        ("*.192.0.2.7", "a pattern of an address"),
        ("*.localhost:80", "a pattern of an address or of this machine"),
        ("localhost", "this machine without a port"),
        ("web.localhost", "this machine without a port"),
        ("127.0.0.1", "this machine without a port"),
        ("127.8.8.8", "this machine without a port"),
        ("::1", "this machine without a port"),
        ("[::1]", "this machine without a port"),
        ("127.1:80", "an address that is not in its standard form"),
        ("0x7f.1:80", "an address that is not in its standard form"),
        ("0x7f000001:80", "an address that is not in its standard form"),
        ("2130706433:80", "an address that is not in its standard form"),
        ("0177.0.0.1:80", "an address that is not in its standard form"),
        ("127.0.0.1.:80", "an address that is not in its standard form"),
        ("\uff11\uff12\uff17.0.0.1", "this machine without a port"),
        ("0.0.0.0:80", "an address that is no host's"),
        ("[::]:80", "an address that is no host's"),
        ("224.0.0.1:80", "an address that is no host's"),
        ("[::ffff:127.0.0.1]:80", "an IPv4 address in the form of IPv6"),
        ("[fe80::1%eth0]:80", "an address with a zone"),
        ("[api.example.org]:80", "brackets without an IPv6 address"),
        ("[127.0.0.1]:80", "brackets without an IPv6 address"),
        ("[::1", "not a name"),
        ("::1]:80", "not a name"),
    ],
)
def test_what_is_no_host_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(PydanticCustomError) as error:
        parse_host(text)
    assert error.value.message().startswith(said)


@pytest.mark.parametrize(
    ("text", "name", "port", "allowed"),
    [
        ("api.example.org", "api.example.org", 443, True),
        ("api.example.org", "API.example.org.", 80, True),
        ("api.example.org", "api.example.org", 8443, False),
        ("api.example.org", "xapi.example.org", 443, False),
        ("api.example.org", "v2.api.example.org", 443, False),
        ("api.example.org:8443", "api.example.org", 8443, True),
        ("api.example.org:8443", "api.example.org", 443, False),
        ("*.example.org", "api.example.org", 443, True),
        ("*.example.org", "a.b.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "badexample.org", 443, False),
        ("*.example.org", ".example.org", 443, False),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("localhost:80", "localhost", 80, True),
        ("localhost:80", "127.0.0.1", 80, True),
        ("localhost:80", "::1", 80, True),
        ("localhost:80", "127.0.0.2", 80, False),
        ("localhost:80", "web.localhost", 80, False),
        ("localhost:80", "127.0.0.1", 81, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "127.1", 80, False),
        ("127.0.0.1:80", "::ffff:127.0.0.1", 80, False),
        ("127.0.0.1:80", "[::1]", 80, False),
        ("[::1]:80", "[0:0::1]", 80, True),
        ("192.0.2.7", "192.0.2.7", 443, True),
        ("192.0.2.7", "192.0.2.8", 443, False),
    ],
)
def test_a_host_allows_what_it_names(text: str, name: str, port: int, allowed: bool) -> None:
    assert parse_host(text).allows(name, port) is allowed


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.example.org/v1", "api.example.org"),
        ("http://API.example.org:80/", "api.example.org"),
        ("https://api.example.org:8443/v1", "api.example.org:8443"),
        ("http://api.example.org:443/v1", "api.example.org:443"),
        ("http://127.0.0.1:4011/v1", "127.0.0.1:4011"),
        ("http://localhost/v1", "localhost:80"),
        ("https://localhost", "localhost:443"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
        ("https://user:key@api.example.org/", "api.example.org"),
        *((each, "") for each in ("", "api.example.org", "ftp://a.org", "http://", "http://[::1")),
        *((each, "") for each in ("http://a:b/", "http://127.1/", "http://0.0.0.0:1", "https://*")),
    ],
)
def test_the_host_of_an_address_is_known(url: str, host: str) -> None:
    assert host_of(url) == host
    if host:
        assert str(parse_host(host)) == host


def test_addresses_of_this_machine_are_known_without_asking() -> None:
    assert parse_host("localhost:80").addresses == ("127.0.0.1", "::1")
    assert parse_host("127.0.0.2:80").addresses == ("127.0.0.2",)
    assert parse_host("api.example.org").addresses == ()
    loopback = ("localhost:1", "a.localhost:1", "127.9.9.9:1", "[::1]:1")
    assert all(parse_host(each).is_loopback for each in loopback)
    assert not parse_host("192.0.2.7").is_loopback


def test_a_list_of_hosts_is_checked_one_by_one() -> None:
    listed = TypeAdapter[tuple[str, ...]](Annotated[HostTexts, "hosts"])
    assert listed.validate_python(["A.example.org", "[::1]:1"]) == ("a.example.org", "[::1]:1")
    with pytest.raises(ValidationError, match="an address with a scheme"):
        listed.validate_python(["a.example.org", "http://b.example.org"])


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    try:
        host = parse_host(text)
    except PydanticCustomError:
        return
    assert parse_host(str(host)) == host
    assert plain_name(host.name) == host.name


OWN = ("203.0.113.9", "fe80::2%eth0", "2001:db8:5::9")


@pytest.mark.parametrize(
    ("address", "bar"),
    [
        ("93.184.216.34", None),
        ("2606:2800:220:1::1", None),
        ("64:ff9b::5db8:d822", None),
        ("127.0.0.1", Bar.HERE),
        ("127.255.0.1", Bar.HERE),
        ("0.0.0.0", Bar.HERE),
        ("0.1.2.3", Bar.HERE),
        ("169.254.169.254", Bar.HERE),
        ("100.100.100.200", Bar.HERE),
        ("fd00:ec2::254", Bar.HERE),
        ("224.0.0.251", Bar.HERE),
        ("255.255.255.255", Bar.HERE),
        ("::", Bar.HERE),
        ("::1", Bar.HERE),
        ("::127.0.0.1", Bar.HERE),
        ("fe80::1", Bar.HERE),
        ("fe80::1%eth0", Bar.HERE),
        ("ff02::1", Bar.HERE),
        ("::ffff:127.0.0.1", Bar.HERE),
        ("::ffff:169.254.169.254", Bar.HERE),
        ("64:ff9b::7f00:1", Bar.HERE),
        ("64:ff9b::a9fe:a9fe", Bar.HERE),
        ("64:ff9b:1::7f00:1", Bar.HERE),
        ("2002:7f00:1::", Bar.HERE),
        ("2002:a9fe:a9fe::1", Bar.HERE),
        ("2001:0:7f00:1::1", Bar.HERE),
        ("203.0.113.9", Bar.HERE),
        ("::ffff:203.0.113.9", Bar.HERE),
        ("2001:db8:5::9", Bar.HERE),
        ("fe80::2", Bar.HERE),
        ("not an address", Bar.HERE),
        ("10.1.2.3", Bar.PRIVATE),
        ("172.16.0.1", Bar.PRIVATE),
        ("192.168.1.1", Bar.PRIVATE),
        ("100.64.0.1", Bar.PRIVATE),
        ("fd12::1", Bar.PRIVATE),
        ("::ffff:10.1.2.3", Bar.PRIVATE),
        ("64:ff9b::a01:203", Bar.PRIVATE),
        ("2002:a01:203::1", Bar.PRIVATE),
        ("64:ff9b:1::808:808", Bar.PRIVATE),
    ],
)
def test_an_address_is_judged_in_every_form(address: str, bar: Bar | None) -> None:
    assert bar_of(address, OWN) is bar


def test_the_machine_knows_its_own_addresses() -> None:
    own = own_addresses()
    assert "127.0.0.1" in own
    assert all(bar_of(each, own) is Bar.HERE for each in own)
