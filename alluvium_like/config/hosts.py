"""Hosts that may be reached, as config.toml names them: a name, a pattern of names, an address.

Pure. One name has one spelling here: in small letters, punycode, without a dot at its end; an
address as it is written in its standard form. What else the system would take for an address, such
as 127.1 or 0x7f.1, is none, so nothing is reached under a spelling that nobody has listed.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from alluvium_like.config.problems import refuse
from alluvium_like.config.values import Line

WEB_PORTS: Final = (443, 80)
"""The ports of a host that is listed without one."""
_PORTS: Final = {"https": 443, "http": 80}
_LOCALHOST: Final = "localhost"
_LOOPBACKS: Final = ("127.0.0.1", "::1")
_LAST_PORT: Final = 65535
_LONGEST_NAME: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_LIKE_A_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_ALLOWED: Final = (
    "api.example.org, api.example.org:8443, *.example.org, or an address such as 127.0.0.1:8080"
)


@dataclass(frozen=True, slots=True)
class Host:
    """What may be reached: `name` at `port`, at those of the web where that is None.

    With `wildcard` it is every name below `name`, and not `name` itself.
    """

    name: str
    port: int | None = None
    wildcard: bool = False

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        text = f"*.{name}" if self.wildcard else name
        return text if self.port is None else f"{text}:{self.port}"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that it stands for."""
        return WEB_PORTS if self.port is None else (self.port,)

    @property
    def is_loopback(self) -> bool:
        """Whether it is an endpoint of the machine itself."""
        address = _address(self.name)
        return _is_localhost(self.name) if address is None else address.is_loopback

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of it that are known without asking: of a literal, and of localhost."""
        if _is_localhost(self.name) and not self.wildcard:
            return _LOOPBACKS
        return () if _address(self.name) is None else (self.name,)

    def allows(self, name: str, port: int) -> bool:
        """Tell whether a name or an address may be reached at a port, as far as it is named."""
        try:
            asked = plain_name(name)
        except ValueError:
            return False
        if port not in self.ports:
            return False
        if self.wildcard:
            return asked.endswith(f".{self.name}")
        return asked == self.name or (self.name == _LOCALHOST and asked in _LOOPBACKS)


def parse_host(text: str) -> Host:
    """Return the host that a text names. Raises what `refuse` raises."""
    if not text.strip():
        refuse("empty", _ALLOWED)
    if "://" in text:
        refuse("an address with a scheme", _ALLOWED)
    if "@" in text:
        refuse("an address with a name to log in with", _ALLOWED)
    if not set("/\\?#").isdisjoint(text):
        refuse("an address with a path", _ALLOWED)
    named, port = _split(text)
    wildcard = named.startswith("*.")
    try:
        name = plain_name(named[2:] if wildcard else named)
    except ValueError as error:
        refuse(str(error), _ALLOWED)
    host = Host(name, port, wildcard)
    _check(host)
    return host


def host_of(url: str) -> str:
    """Return the text of the host that an address of http or https leads to, empty for no such."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or _PORTS[parts.scheme]
        host = Host(plain_name(parts.hostname or ""), port)
        _check(host)
    except (ValueError, LookupError):
        return ""
    if port == _PORTS[parts.scheme] and not host.is_loopback:
        host = Host(host.name)
    return str(host)


def plain_name(text: str) -> str:
    """Return the one spelling of a name or an address. Raises ValueError where it is neither."""
    if not text.isascii():
        import idna  # its tables are large, and hardly anybody needs them

        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError:
            raise ValueError("not a name that a host can have") from None
    inner = text.removeprefix("[").removesuffix("]") if _BRACKETS.fullmatch(text) else text
    if (found := _address(inner)) is not None:
        if isinstance(found, IPv6Address) and found.scope_id is not None:
            raise ValueError("an address with a zone")
        return str(found)
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if "*" in name:
        raise ValueError("a pattern that is not '*.' and a name")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(name) > _LONGEST_NAME:
        raise ValueError("not a name that a host can have")
    if _LIKE_A_NUMBER.fullmatch(labels[-1]):
        raise ValueError("an address that is not in its standard form")
    return name


def _split(text: str) -> tuple[str, int | None]:
    """Return what a text names, and its port."""
    if found := _BRACKETS.fullmatch(text):
        named, port = found[1], found[2]
        if not isinstance(_address(named), IPv6Address):
            refuse("brackets without an IPv6 address", _ALLOWED)
    elif text.count(":") > 1:
        named, port = text, None
    else:
        named, colon, told = text.partition(":")
        port = told if colon else None
    if port is None:
        return named, None
    if not _PORT.fullmatch(port) or not 0 < int(port) <= _LAST_PORT:
        refuse("not a port", f"a port from 1 to {_LAST_PORT}")
    return named, int(port)


def _check(host: Host) -> None:
    """Refuse what cannot be reached, or not be meant."""
    address = _address(host.name)
    if host.wildcard and (address is not None or _is_localhost(host.name)):
        refuse("a pattern of an address or of this machine", _ALLOWED)
    if host.is_loopback and host.port is None:
        refuse("this machine without a port", f"such as {host}:8080")
    if address is None:
        return
    if address.is_unspecified or address.is_multicast:
        refuse("an address that is no host's", _ALLOWED)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        refuse("an IPv4 address in the form of IPv6", str(address.ipv4_mapped))


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _is_localhost(name: str) -> bool:
    return name == _LOCALHOST or name.endswith(f".{_LOCALHOST}")


def _host(value: str) -> str:
    return str(parse_host(value))


HostText = Annotated[Line, AfterValidator(_host)]
"""The text of a host, which comes out in its one spelling."""
HostTexts = Annotated[tuple[HostText, ...], Field(strict=False)]
