"""Ranges of ports: nobody shares one, and none is given in which somebody else listens."""

import socket
from collections.abc import Iterator

import pytest

from alluvium_like.execution.ports import Ports

FIRST, LAST, SIZE = 21_500, 21_529, 10


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", FIRST + 13))
        taken.listen()
        yield taken


def test_runs_share_no_port_and_a_range_that_came_back_is_given_again_last() -> None:
    ports = Ports()
    bases = [ports.take(key, FIRST, LAST, SIZE) for key in "abc"]
    assert bases == [FIRST, FIRST + 10, FIRST + 20]
    assert ports.take("d", FIRST, LAST, SIZE) is None
    ports.give_back("c")
    ports.give_back("b")
    ports.give_back("never given")
    assert ports.take("d", FIRST, LAST, SIZE) == FIRST + 10
    ports.give_back("a")
    assert ports.take("e", FIRST, LAST, SIZE) == FIRST + 20, "not the first one that is free"


def test_a_range_in_which_somebody_listens_is_passed_over(listener: socket.socket) -> None:
    ports = Ports()
    bases = [ports.take(key, FIRST, LAST, SIZE) for key in "abc"]
    assert bases == [FIRST, FIRST + 20, None]
    listener.close()
    assert ports.take("c", FIRST, LAST, SIZE) == FIRST + 10


def test_ranges_of_another_size_do_not_overlap_with_those_given_out() -> None:
    ports = Ports()
    assert ports.take("a", FIRST, LAST, SIZE) == FIRST
    assert ports.take("b", FIRST, LAST, 15) == FIRST + 15


def test_daemons_of_one_machine_begin_at_different_places() -> None:
    firsts = {Ports().take("a", FIRST, LAST, SIZE, seed=f"workspace-{n}") for n in range(20)}
    assert firsts == {FIRST, FIRST + 10, FIRST + 20}
