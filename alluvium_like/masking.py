"""Secrets kept out of what is written: values that were given to programs, and keys by their shape.

What is once remembered counts for the whole process: a secret of one task is one in every log. A
value is looked for as it is, and as JSON, JSON in JSON and addresses write it; one of several lines
line by line too. What is short is not masked: it would be found in every text. Nothing here is a
guarantee against an agent that encodes what it was given. What is cut is cut after it was masked.

Every secret has a longest form, so what comes in chunks is masked as the whole text would be.
"""

import os
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

MASKED: Final = "[masked]"
_SHORTEST: Final = 6
_LONG_LINE: Final = 16
_PLAIN = re.compile(r"\.{1,2}/|https?://[^@?\s]*$|file:|[+-]?\d[\d_.]*$")
_TOP_FOLDER = re.compile(r"/+[^/:]+")
_PIECE = re.compile(r"[\w.~-]+|\\+|.", re.ASCII | re.DOTALL)
"""What every notation leaves as it is, backslashes in a row, or one of the other characters."""
_LETTERS: Final = {'"': '"', "/": "/", "\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
"""What JSON writes behind a backslash."""
_LONGEST_NOTATION: Final = 12
"""So many times as long as itself a value may be: seven backslashes and what `u` begins."""
_SHAPES: Final = r"""
    (?=[sgAyxhnpre])(?:
      (?<!\w)                                      # where a word begins,
    | (?<=\\[nrtbf]) | (?<=\\u[0-9a-fA-F]{4}) | (?<=\\x[0-9a-fA-F]{2})  # behind what JSON escapes,
    | (?<=%[0-9a-fA-F]{2}) | (?<=[\[;\d]m)         # or an address does, or behind a colour
    )(?:
      sk-(?=[a-z-]{0,80}[A-Z0-9_])[\w-]{16,2000}  # OpenAI, Anthropic and others; no plain words
    | (?:gh[opusr]_|github_pat_)\w{20,2000}        # GitHub
    | glpat-[\w-]{20,2000}                         # GitLab
    | (?:AKIA|ASIA)[A-Z0-9]{16}\b                  # Amazon
    | AIza[\w-]{35}                                # Google
    | ya29\.[\w-]{20,2000}
    | gsk_\w{20,2000}                              # Groq
    | xai-\w{20,2000}
    | hf_[A-Za-z0-9]{20,2000}
    | npm_[A-Za-z0-9]{30,2000}
    | pypi-AgE[\w-]{30,2000}
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
_LOOKED_BACK: Final = 6
"""How far before a key its shape depends on what stands there."""


class _Known:
    """The secrets that are known: how they are found in texts and in bytes."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        longest_first = sorted(values, key=lambda value: (-len(value), value))
        source = "|".join([*map(_pattern, longest_first), _SHAPES])
        self.in_text = re.compile(source, re.VERBOSE | re.ASCII)
        self.in_bytes = re.compile(_encoded(source), re.VERBOSE)
        longest_value = max((len(_encoded(value)) for value in longest_first), default=0)
        self.longest = max(_LONGEST_SHAPE, _LONGEST_NOTATION * longest_value)


def _pattern(value: str) -> str:
    """Return what finds a value in all its notations, up to JSON in JSON in JSON."""
    return "".join(_notations(piece) for piece in _PIECE.findall(value))


def _notations(piece: str) -> str:
    in_address = quote(_encoded(piece), safe="")
    if in_address == piece:
        return re.escape(piece)
    units = piece.encode("utf-16-be", "surrogatepass").hex()
    escaped = [units[at : at + 4] for at in range(0, len(units), 4)]
    forms = [
        "".join(rf"\\{{1,7}}u(?i:{unit})" for unit in escaped),
        f"(?i:{in_address})",
    ]
    if piece[0] == "\\":
        forms.append(rf"\\{{{len(piece)},{8 * len(piece)}}}")
    elif piece != "\n":  # the lines of a value are looked for one by one
        forms.append(re.escape(piece))
    if piece in _LETTERS:
        forms.append(rf"\\{{1,7}}{_LETTERS[piece]}")
    return f"(?:{'|'.join(forms)})"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


_lock = threading.Lock()
_values: set[str] = set()
_known = _Known()


def remember(values: Iterable[str]) -> None:
    """Mask these from now on, but for what is too short, a number, a path or a plain address."""
    global _known
    secret = {part for value in values for part in _parts(value.strip())}
    with _lock:
        if secret <= _values:
            return
        _values.update(secret)
        _known = _Known(_values)


def _parts(value: str) -> Iterator[str]:
    """Yield what is looked for of a value: the whole, and the lines of one of several."""
    if len(value) >= _SHORTEST and not _PLAIN.match(value) and not _is_path(value):
        yield value
        lines = (line.strip() for line in value.split("\n")) if "\n" in value else ()
        # The first line of a key in PEM is public, and begins what has a shape.
        yield from (ln for ln in lines if len(ln) >= _LONG_LINE and not ln.startswith("-----"))


def _is_path(value: str) -> bool:
    """Tell whether a value begins with a folder of this machine; keys may begin with `/` too."""
    top = _TOP_FOLDER.match(value)
    return top is not None and os.path.lexists(top[0])


def mask(text: str, *, keep: Iterable[str] = ()) -> str:
    """Return `text` without the secrets that are known; what is to be kept in it stays as it is."""
    kept = sorted(filter(None, keep), key=len, reverse=True)
    if not kept:
        return _known.in_text.sub(MASKED, text)
    parts = re.split(f"({'|'.join(map(re.escape, kept))})", text)
    parts[::2] = map(mask, parts[::2])
    return "".join(parts)


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
        self._before = told[-_LOOKED_BACK:]
        return b"".join([*parts, told[at:]])
