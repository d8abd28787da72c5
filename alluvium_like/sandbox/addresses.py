"""What a name may lead to: not to this machine, its link, or what only looks like another address.

The tables are our own: those of the library differ between versions of Python. An IPv6 address that
carries an IPv4 one, which a translator on the way would take out, is judged by that one.
"""

from collections.abc import Collection, Iterator
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import psutil

_NEVER: Final = tuple(
    ip_network(each)
    for each in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "fe80::/10", "ff00::/8", "2001::/32"),
        # Where clouds answer to their machines: with keys, among other things.
        *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
        *("fd00:ec2::254/128", "fd20:ce::254/128"),
    )
)
_PRIVATE: Final = tuple(
    ip_network(each)
    for each in (
        *("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "fc00::/7", "fec0::/10", "64:ff9b:1::/48"),
    )
)
_TRANSLATED: Final = tuple(ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48"))
_LAST_32_BITS: Final = 0xFFFF_FFFF


class Bar(StrEnum):
    """Why an address is not gone to."""

    HERE = "here"
    """It is this machine, its link, or no host's."""
    PRIVATE = "private"
    """It is one of a private network."""


def bar_of(address: str, own: Collection[str]) -> Bar | None:
    """Return what bars the way to an address that a name led to; `own` are the machine's.

    What is no address at all counts as the machine's own.
    """
    try:
        forms = list(_forms(ip_address(_bare(address))))
    except ValueError:
        return Bar.HERE
    ours = {ip_address(_bare(each)) for each in own}
    if any(form in ours or any(form in each for each in _NEVER) for form in forms):
        return Bar.HERE
    if any(form in each for form in forms for each in _PRIVATE):
        return Bar.PRIVATE
    return None


def own_addresses() -> set[str]:
    """Return the addresses of this machine's interfaces. A few system calls, none that waits."""
    return {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name in ("AF_INET", "AF_INET6")
    }


def _bare(address: str) -> str:
    """Return an address without its zone."""
    return address.partition("%")[0]


def _forms(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """Yield an address, and the one that it carries; one of IPv4 in IPv6's form is only that."""
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
        return
    yield address
    if address.sixtofour:
        yield address.sixtofour
    if any(address in each for each in _TRANSLATED):
        yield IPv4Address(int(address) & _LAST_32_BITS)
