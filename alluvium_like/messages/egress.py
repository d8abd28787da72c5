"""The network of a box: why a program inside does not reach a host."""

from typing import Final

_HOSTS: Final = "[sandbox].hosts in config.toml"


def not_listed(where: str) -> str:
    """Say that nobody has named a host."""
    return f"{where} is not allowed: {_HOSTS} does not name it"


def odd_name(where: str, problem: str) -> str:
    """Say that a host is named in a way that is not understood."""
    return f"{where} is not allowed: it is {problem}; {_HOSTS} names what is"


def leads_here(where: str, address: str) -> str:
    """Say that a name leads to the machine itself or its link."""
    return (
        f"{where} is not allowed: the name leads to {address}, which is this machine's own or its "
        f"link's; {_HOSTS} may name such an address itself, with its port"
    )


def leads_inside(where: str, name: str, address: str) -> str:
    """Say that a pattern of names does not stand for private addresses."""
    return (
        f"{where} is not allowed: the name leads to {address}, a private address, for which a "
        f"pattern is not enough; {_HOSTS} may name {name} itself"
    )


def not_reached(where: str, reason: str) -> str:
    """Say that a host is allowed, and does not answer."""
    return f"{where} cannot be reached: {reason}"
