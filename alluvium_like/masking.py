"""Secrets kept out of what is written: values that were given to programs, and keys by their shape.

What is once remembered counts for the whole process: a secret of one task is one in every log. A
value is looked for as it is and as JSON writes it, one of several lines line by line too. What is
short is not masked: it would be found in every text. Nothing here is a guarantee against an agent
that encodes what it was given.

Every secret has a longest form, so what comes in chunks is masked as the whole text would be.
"""

import json
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Final

MASKED: Final = "[masked]"
_SHORTEST: Final = 6
_LONG_LINE: Final = 16
_PLAIN = re.compile(r"(/|\.{1,2}/|https?://[^@\s]*$|file:)")
_SHAPES: Final = r"""
    (?:(?<!\w)|(?<=\\[nrt]))(?:                    # where a word begins, in JSON too
      sk-[A-Za-z0-9_-]{16,2000}                    # OpenAI, Anthropic and those who copy them
    | (?:gh[opusr]_|github_pat_)\w{20,2000}        # GitHub
    | glpat-[\w-]{20,2000}                         # GitLab
    | (?:AKIA|ASIA)[A-Z0-9]{16}\b                  # Amazon
    | AIza[\w-]{35}                                # Google
    | ya29\.[\w-]{20,2000}
    | gsk_\w{20,2000}                              # Groq
    | xai-\w{20,2000}
    | hf_[A-Za-z0-9]{20,2000}
    | npm_[A-Za-z0-9]{30,2000}
    | pypi-[\w-]{30,2000}
    | xox[abeoprs]-[\w-]{10,2000}                  # Slack
    | [srp]k_(?:live|test)_\w{16,2000}             # Stripe
    | eyJ[\w-]{8,4000}\.eyJ[\w-]{8,4000}\.[\w-]{8,4000}  # JSON web tokens
    )
    | -----BEGIN\ [A-Z\ ]{0,40}PRIVATE\ KEY-----   # and what follows, as it is or in JSON
      (?:[\snr\\]{0,8}(?:Proc-Type|DEK-Info):[^\n\\]{0,80}){0,2}[A-Za-z0-9+/=\s\\]{0,12000}
      (?:-----END\ [A-Z\ ]{0,40}PRIVATE\ KEY-----)?
"""
_LONGEST_SHAPE: Final = 16_384
_LONGEST_HELD: Final = 65_536


class _Known:
    """The secrets that are known: how they are found in texts and in bytes."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        spelled = {word for value in values for word in _spellings(value)}
        longest_first = sorted(spelled, key=lambda word: (-len(word), word))
        source = "|".join([*map(re.escape, longest_first), _SHAPES])
        self.in_text = re.compile(source, re.VERBOSE | re.ASCII)
        self.in_bytes = re.compile(_encoded(source), re.VERBOSE)
        self.longest = max([_LONGEST_SHAPE, *(len(_encoded(word)) for word in spelled)])


def _spellings(value: str) -> Iterator[str]:
    if "\n" not in value:
        yield value
    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


_lock = threading.Lock()
_values: set[str] = set()
_known = _Known()


def remember(values: Iterable[str]) -> None:
    """Mask these from now on, but for what is too short, a path or a plain address."""
    global _known
    secret = {part for value in values for part in _parts(value.strip())}
    with _lock:
        if secret <= _values:
            return
        _values.update(secret)
        _known = _Known(_values)


def _parts(value: str) -> Iterator[str]:
    """Yield what is looked for of a value: the whole, and the lines of one of several."""
    if len(value) >= _SHORTEST and not _PLAIN.match(value):
        yield value
        lines = (line.strip() for line in value.split("\n")) if "\n" in value else ()
        # The first line of a key in PEM is public, and begins what has a shape.
        yield from (ln for ln in lines if len(ln) >= _LONG_LINE and not ln.startswith("-----"))


def mask(text: str) -> str:
    """Return `text` without the secrets that are known."""
    return _known.in_text.sub(MASKED, text)


class MaskedStream:
    """Masks what comes in chunks: a line is held back until it is whole, a giant one in part.

    What is held back beside that is a private key, until its last line.
    """

    def __init__(self) -> None:
        self._held = b""
        self._before = b""
        """The last bytes that are told already: what a key may begin after."""

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk; return what can be told of now."""
        known, self._held = _known, self._held + chunk
        end = self._held.rfind(b"\n") + 1
        if not end:
            end = len(self._held) - known.longest
            if end < _LONGEST_HELD:
                return b""
        return self._release(known, end)

    def finish(self) -> bytes:
        """Return the rest."""
        return self._release(_known, len(self._held) + 1)

    def _release(self, known: _Known, end: int) -> bytes:
        """Tell of what is held as far as `end`, but not of a secret that may go on there."""
        text = self._before + self._held
        at = len(self._before)
        end += at
        parts = []
        for found in known.in_bytes.finditer(text, at):
            if found.end() >= end:
                end = min(end, found.start())
                break
            parts += [text[at : found.start()], MASKED.encode()]
            at = found.end()
        told, self._held = text[:end], text[end:]
        self._before = told[-2:]
        return b"".join([*parts, told[at:]])
