"""Secrets in texts: what is masked, what is not, and that chunks make no difference."""

import json
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alluvium_like import masking
from alluvium_like.masking import MASKED, MaskedStream, mask, remember

HUSH = 'hush "4711" pa\\ss wörd'
ODD = 'pa"s\\s\\\\ wö&rd\t<4711>/+=\U0001f600x'
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "c2VjcmV0b2Y2NGNo\n" * 4
    + "YWI=\n-----END RSA PRIVATE KEY-----"
)
SHAPES = [
    "sk-proj-abcdefghijklmnop0123",
    "sk-ant-api03-abcdefghijklmnop",
    "ghp_abcdefghijklmnopqrst0123",
    "github_pat_abcdefghijklmnopqrst0123",
    "glpat-abcdefghijklmnopqrst",
    "AKIAABCDEFGHIJKLMNOP",
    "AIza" + "a" * 35,
    "gsk_abcdefghijklmnopqrst",
    "hf_abcdefghijklmnopqrst",
    "xoxb-1234567890-abc",
    "sk_live_abcdefghijklmnop",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    PEM,
]


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test remembers is forgotten after it."""
    monkeypatch.setattr(masking, "_values", set())
    monkeypatch.setattr(masking, "_known", masking._Known())


def streamed(data: bytes, *cuts: int) -> bytes:
    """Mask what comes in chunks that end at `cuts`."""
    stream = MaskedStream()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [stream.feed(data[first:last]) for first, last in pairwise(places)]
    return b"".join([*parts, stream.finish()])


def whole(data: bytes) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    return mask(text).encode("utf-8", "surrogateescape")


def test_a_value_is_masked_as_it_is_and_as_json_writes_it() -> None:
    remember([f" {HUSH}\n"])
    assert mask(f"a {HUSH} b {HUSH}") == f"a {MASKED} b {MASKED}"
    for ascii_only in (True, False):
        said = json.dumps({"key": HUSH, "more": 1}, ensure_ascii=ascii_only)
        assert mask(said) == json.dumps({"key": MASKED, "more": 1})
    assert streamed(f"{HUSH}\n".encode(), 3, 17, 22) == f"{MASKED}\n".encode()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_value_is_masked_in_json_that_stands_in_json(depth: int, ascii_only: bool) -> None:
    remember([ODD])
    said: object = ODD
    for _ in range(depth):
        said = json.dumps({"a": said, "b": 1}, ensure_ascii=ascii_only)
        for each in "<>&":  # as Go and Java write them, for pages
            said = said.replace(each, f"\\u{ord(each):04X}")
    assert mask(str(said)).count(MASKED) == 1
    assert "4711" not in mask(str(said))
    assert streamed(str(said).encode(), 9, 17).decode() == mask(str(said))


def test_a_value_is_masked_in_addresses() -> None:
    remember([ODD, "Zq7+hush/4711=="])
    assert mask("at ?key=Zq7%2Bhush%2f4711%3D%3D&x=1") == f"at ?key={MASKED}&x=1"
    assert mask(f"at ?key={quote(ODD, safe='')}&x=1") == f"at ?key={MASKED}&x=1"
    assert mask(json.dumps("Zq7+hush/4711==").replace("/", "\\/")) == f'"{MASKED}"'


def test_the_lines_of_a_value_are_masked_one_by_one_and_together_in_json() -> None:
    remember(["first-line-4711-4712\n}\nanother-line-4713"])
    printed = "first-line-4711-4712\r\n}\n  another-line-4713\n"
    assert mask(printed) == f"{MASKED}\r\n}}\n  {MASKED}\n"
    assert streamed(printed.encode(), 5, 21, 23).decode() == mask(printed)
    assert mask(json.dumps("first-line-4711-4712\n}\nanother-line-4713")) == f'"{MASKED}"'


@pytest.mark.parametrize("secret", SHAPES)
def test_keys_are_known_by_their_shape(secret: str) -> None:
    in_json = json.dumps({"text": f"they are:\n{secret}"})
    coloured = f"\x1b[1;32m{secret}\x1b[0m"
    for told in (
        *(secret, in_json, f"KEY={secret}\n", coloured, json.dumps(coloured)),
        *(f"?a=%20{secret}", f"\\u0022{secret}\\u0022", f"\\x27{secret}\\x27"),
    ):
        assert mask(told).count(MASKED) == 1
        assert not any(line in mask(told) for line in secret.splitlines())


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "short", "1", "/usr/local/bin:/bin", "./here/and-there", "../up/and-down"),
        *("200000", "-0.75", "1_000_000", "127.0.0.1", "//usr/lib", "/usr/not/there/yet"),
        *("http://127.0.0.1:8080/v1", "https://api.example.com/v1/", "file:///etc/hosts"),
    ],
)
def test_what_is_short_or_says_only_where_something_is_stays(value: str) -> None:
    remember([value])
    assert mask(f"it is {value}.") == f"it is {value}."


@pytest.mark.parametrize(
    "value",
    [
        *("https://me:hush@example.com/v1", "https://example.com/v1?key=hush"),
        *("/x9Kq+abcdEFGHijklMNOPqrst/AAAB", "/x9KqabcdEFGHijkl", "/x9Kqabcd:EFGH"),
        "2026-or-a-word",
    ],
)
def test_what_only_begins_like_an_address_a_path_or_a_number_is_masked(value: str) -> None:
    remember([value])
    assert mask(f"at {value} now") == f"at {MASKED} now"


def test_what_is_to_be_kept_stays_and_the_rest_is_masked() -> None:
    remember(["alluvium"])
    keep = ["", "/home/alluvium", "/home/alluvium/tasks/7"]
    told = "in /home/alluvium/tasks/7/input of alluvium, /home/alluvium"
    assert mask(told, keep=keep) == "in /home/alluvium/tasks/7/input of [masked], /home/alluvium"


def test_words_that_only_look_like_keys_stay() -> None:
    for told in (
        "task-abcdefghijklmnopqrstuvw",
        "disk-usage",
        "sk-short",
        "sk-learn-upgrade-notes",
        "risk-free-abcdefghijklm",
    ):
        assert mask(told) == told


def test_the_longest_of_values_that_begin_alike_is_masked() -> None:
    remember(["secret-47", "secret-4711"])
    assert mask("secret-4711 secret-47") == f"{MASKED} {MASKED}"


def test_lines_are_told_when_they_are_whole() -> None:
    stream = MaskedStream()
    assert stream.feed(b"one") == b""
    assert stream.feed(b" line\nand") == b"one line\n"
    assert stream.finish() == b"and"


def test_a_private_key_is_held_back_until_its_end_and_nothing_else_is() -> None:
    stream = MaskedStream()
    lines = [f"{line}\n".encode() for line in PEM.splitlines()]
    assert [stream.feed(line) for line in lines] == [b""] * (len(lines) - 1) + [b"[masked]\n"]
    assert (
        stream.feed(b"if '-----BEGIN PRIVATE KEY-----' in text:\n") == b"if '[masked]' in text:\n"
    )
    assert stream.feed(lines[0]) == b""
    assert stream.feed(b"{}\n") == b"[masked]{}\n", "one that has no end ends with its lines"


@pytest.mark.parametrize("secret", ["secret-value-4711", "sk-abcdefghijklmnop0123", PEM])
def test_a_giant_line_is_told_in_part_and_no_secret_in_it_is_cut(secret: str) -> None:
    remember(["secret-value-4711"])
    size = 3 * 65_536
    said = secret.replace("\n", "\\n").encode()
    for offset in (0, 1, len(said) // 2, len(said) - 1, len(said)):
        data = bytearray(b". " * (size // 2))
        for end in range(65_536, size, 16_384):
            data[end - offset : end - offset + len(said)] = said
        stream = MaskedStream()
        told = b"".join(stream.feed(bytes(data[at : at + 4096])) for at in range(0, size, 4096))
        assert len(told) > size // 3, "it is not held back until its end"
        assert told + stream.finish() == whole(bytes(data))
        assert whole(bytes(data)).count(b"[masked]") == 8


PIECES = [
    *(HUSH, HUSH[:7], "two-lines-of-secret-1\nand-the-second-line-2", "two-lines-of-secret-1\n"),
    *(*SHAPES, PEM[:40], PEM[:60], "-----BEGIN PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"),
    *("\x1b[32m", "%20", "\\u0022", ODD, json.dumps(json.dumps(ODD)), ODD[:9]),
    *("\n", "\n", " ", "x", "-----", "ä", "\\n", "\\", "n", "sk-", "eyJ"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=12),
    st.lists(st.integers(0, 600), max_size=8),
)
@example([PEM[:40], "\n", "x"], [41])
@example([PEM, "\n", PEM], list(range(0, 300, 7)))
def test_any_chunks_of_any_text_give_what_masking_the_whole_gives(
    pieces: list[str], cuts: list[int]
) -> None:
    remember([HUSH, ODD, "two-lines-of-secret-1\nand-the-second-line-2"])
    data = "".join(pieces).encode("utf-8", "surrogatepass")
    assert streamed(data, *cuts) == whole(data)


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_what_is_no_text_comes_through_as_it_is(data: bytes, cuts: list[int]) -> None:
    assert streamed(data, *cuts) == data
