"""When an item may be claimed, on a clock that the test turns."""

from dataclasses import replace

from alluvium_like.inbox.look import Examination, Fingerprint, Item
from alluvium_like.inbox.settle import Settling

ITEM = Item(b"a", 1, 10, is_dir=False)


def seen(
    at: float, print_: bytes | None = b"same", *, writer: bool = False, took: float = 0.0
) -> Examination:
    fingerprint = None if print_ is None else Fingerprint(print_)
    return Examination(fingerprint, "", writer, at, at + took)


def settling_with(
    *items: Item, seconds: float = 2.0, renamed: set[bytes] | None = None
) -> Settling:
    settling = Settling(seconds)
    settling.update(items, renamed or set(), 100.0)
    return settling


def test_two_equal_looks_a_settle_time_apart_are_needed() -> None:
    settling = settling_with(ITEM)
    assert settling.due(100.0) == [ITEM]
    assert not settling.observe(ITEM, seen(100.0))
    assert settling.due(101.9) == []
    assert settling.next_look() == 102.0
    assert not settling.observe(ITEM, seen(101.9)), "too early, though it is the second look"
    assert settling.observe(ITEM, seen(102.0))


def test_a_change_starts_the_settle_time_again() -> None:
    settling = settling_with(ITEM)
    assert not settling.observe(ITEM, seen(100.0, b"one"))
    assert not settling.observe(ITEM, seen(103.0, b"two"))
    assert not settling.observe(ITEM, seen(104.0, b"two"))
    assert settling.observe(ITEM, seen(105.0, b"two"))


def test_the_duration_of_a_walk_does_not_count_as_settle_time() -> None:
    settling = settling_with(ITEM)
    assert not settling.observe(ITEM, seen(100.0, took=1.5))
    assert not settling.observe(ITEM, seen(102.0, took=1.5))
    assert settling.observe(ITEM, seen(103.5, took=1.5))


def test_an_open_writer_holds_everything_back() -> None:
    for seconds in (2.0, 0.0):
        settling = settling_with(ITEM, seconds=seconds, renamed={b"a"})
        assert not settling.observe(ITEM, seen(100.0, writer=True))
        assert not settling.observe(ITEM, seen(110.0, writer=True))
        assert settling.observe(ITEM, seen(112.0))


def test_an_item_that_arrived_by_rename_is_settled_at_its_first_look() -> None:
    settling = settling_with(ITEM, renamed={b"a"})
    assert settling.observe(ITEM, seen(100.0))


def test_a_rename_told_later_makes_a_known_item_due_and_settled() -> None:
    settling = settling_with(ITEM)
    assert not settling.observe(ITEM, seen(100.0))
    settling.update([ITEM], {b"a"}, 100.1)
    assert settling.due(100.1) == [ITEM]
    assert settling.observe(ITEM, seen(100.1))


def test_a_renamed_item_that_was_written_to_settles_the_ordinary_way() -> None:
    settling = settling_with(ITEM, renamed={b"a"})
    assert not settling.observe(ITEM, seen(100.0, b"one", writer=True))
    assert not settling.observe(ITEM, seen(102.0, b"two"))
    assert settling.observe(ITEM, seen(104.0, b"two"))


def test_no_settle_time_settles_at_the_first_look() -> None:
    assert settling_with(ITEM, seconds=0.0).observe(ITEM, seen(100.0))


def test_an_unsteady_look_settles_nothing() -> None:
    settling = settling_with(ITEM, seconds=0.0, renamed={b"a"})
    assert not settling.observe(ITEM, seen(100.0, None))
    settling = settling_with(ITEM)
    assert not settling.observe(ITEM, seen(100.0, None))
    assert not settling.observe(ITEM, seen(102.0, None)), "two unsteady looks are not equal"
    assert not settling.observe(ITEM, seen(104.0))
    assert settling.observe(ITEM, seen(106.0))


def test_a_replaced_item_starts_anew_and_a_gone_one_is_forgotten() -> None:
    settling = settling_with(ITEM)
    settling.observe(ITEM, seen(100.0))
    other = replace(ITEM, inode=11)
    settling.update([other], set(), 102.0)
    assert settling.due(102.0) == [other]
    assert not settling.observe(other, seen(102.0))
    settling.update([], set(), 103.0)
    assert settling.next_look() is None
    assert settling.due(1000.0) == []


def test_a_closed_writer_is_looked_for_at_every_wake() -> None:
    folder = Item(b"d", 1, 11, is_dir=True)
    settling = settling_with(ITEM, folder)
    for item in (ITEM, folder):
        settling.observe(item, seen(100.0, writer=True))
    settling.update([ITEM, folder], set(), 100.1)
    assert settling.due(100.1) == [ITEM], "nobody tells of closed files in a folder"
    assert not settling.observe(ITEM, seen(100.1, b"closed"))
    settling.update([ITEM, folder], set(), 100.2)
    assert settling.due(100.2) == []
    assert settling.due(102.1) == [ITEM, folder]


def test_an_open_writer_does_not_make_a_short_settle_time_busy() -> None:
    settling = settling_with(ITEM, seconds=0.01)
    settling.observe(ITEM, seen(100.0))
    assert settling.next_look() == 100.01
    settling.observe(ITEM, seen(100.01, writer=True))
    assert settling.next_look() == 100.51


def test_an_item_that_was_not_claimed_comes_up_again_but_not_at_once() -> None:
    settling = settling_with(ITEM, seconds=0.0)
    assert settling.observe(ITEM, seen(100.0))
    settling.update([ITEM], set(), 100.0)
    assert settling.due(100.0) == []
    later = settling.next_look()
    assert later is not None
    assert settling.due(later) == [ITEM]
    assert settling.observe(ITEM, seen(later))


def test_nothing_pends_once_the_last_item_was_claimed() -> None:
    settling = settling_with(ITEM, seconds=0.0)
    assert settling.observe(ITEM, seen(100.0))
    settling.forget(ITEM)
    assert settling.next_look() is None


def test_items_are_examined_in_the_order_of_the_listing() -> None:
    items = [Item(name, 1, inode, is_dir=False) for inode, name in enumerate((b"c", b"a", b"b"))]
    settling = settling_with(*items)
    settling.update(reversed(items), set(), 100.0)
    assert settling.due(100.0) == items[::-1]


def test_many_pending_items_are_each_handled_in_constant_time() -> None:
    examined = 10_000
    items = [Item(b"%d" % number, 1, number, is_dir=False) for number in range(examined)]
    settling = settling_with(*items)
    for item in settling.due(100.0):
        settling.observe(item, seen(100.0))
    settling.update(items, set(), 102.0)
    due = settling.due(102.0)
    assert len(due) == examined
    assert all(settling.observe(item, seen(102.0)) for item in due)
