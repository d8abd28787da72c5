"""Which values of refs the daemon's own writes explain."""

from pathlib import Path

import pytest

from alluvium_like.gitrepo.journal import ANY, RefJournal

STORE, OTHER = Path("/ours.git"), Path("/other.git")
A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def journal() -> RefJournal:
    made = RefJournal()
    made.want(wanted=True)
    return made


def odd(journal: RefJournal, before: dict[str, str], now: dict[str, str]) -> list[str]:
    return journal.unexplained(STORE, before, now, journal.mark())


def test_what_nobody_wrote_is_told(journal: RefJournal) -> None:
    before = {"refs/a": A, "refs/b": A, "refs/c": A}
    assert odd(journal, before, {"refs/a": A, "refs/b": B, "refs/d": A}) == [
        *("refs/b", "refs/c", "refs/d")
    ]


def test_the_last_of_our_writes_counts_and_no_earlier_value(journal: RefJournal) -> None:
    for value in (B, C):
        with journal.writing(STORE, {"refs/a": value}):
            pass
    assert odd(journal, {"refs/a": A}, {"refs/a": C}) == []
    for earlier in ({"refs/a": A}, {"refs/a": B}, {}):
        assert odd(journal, {"refs/a": A}, earlier) == ["refs/a"]


def test_a_ref_that_we_deleted_is_gone_for_good(journal: RefJournal) -> None:
    with journal.writing(STORE, {"refs/a": ""}):
        pass
    assert odd(journal, {"refs/a": A}, {}) == []
    assert odd(journal, {"refs/a": A}, {"refs/a": A}) == ["refs/a"]


def test_while_something_is_written_both_values_are_ours(journal: RefJournal) -> None:
    with journal.writing(STORE, {"refs/a": B}):
        assert odd(journal, {"refs/a": A}, {"refs/a": A}) == []
        assert odd(journal, {"refs/a": A}, {"refs/a": B}) == []
        assert odd(journal, {"refs/a": A}, {"refs/a": C}) == ["refs/a"]


def test_what_was_written_while_refs_were_read_may_have_been_read_or_not(
    journal: RefJournal,
) -> None:
    mark = journal.mark()
    with journal.writing(STORE, {"refs/a": B}):
        pass
    for seen in (A, B):
        assert journal.unexplained(STORE, {"refs/a": A}, {"refs/a": seen}, mark) == []
    journal.drop(mark)
    assert odd(journal, {"refs/a": A}, {"refs/a": B}) == []


def test_what_failed_may_stand_or_not_until_the_next_look(journal: RefJournal) -> None:
    with pytest.raises(OSError, match="cut off"), journal.writing(STORE, {"refs/a": B}):
        raise OSError("cut off")
    for seen in (A, B):
        assert odd(journal, {"refs/a": A}, {"refs/a": seen}) == []
    journal.drop(journal.mark())
    assert odd(journal, {"refs/a": A}, {"refs/a": B}) == ["refs/a"]


def test_a_fetch_may_bring_anything_until_it_says_what_came(journal: RefJournal) -> None:
    with journal.writing(STORE, {"refs/tags/*": ANY, "refs/main": ANY}) as came:
        now = {"refs/tags/x": C, "refs/main": B}
        assert odd(journal, {}, now) == []
        assert odd(journal, {}, {"refs/heads/x": C}) == ["refs/heads/x"]
        came.clear()
        came |= {"refs/main": B}
    assert odd(journal, {}, now) == ["refs/tags/x"]


def test_what_was_written_elsewhere_or_before_anybody_asked_explains_nothing() -> None:
    journal = RefJournal()
    with journal.writing(STORE, {"refs/a": B}):
        pass
    journal.want(wanted=True)
    with journal.writing(OTHER, {"refs/a": B}):
        pass
    assert odd(journal, {"refs/a": A}, {"refs/a": B}) == ["refs/a"]
