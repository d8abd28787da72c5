"""What a model's answer holds: prose, a diff in a fence, or a question for a person. Pure."""

import re
from typing import Final

_FENCE: Final = re.compile(
    r"^(?P<mark>`{3,}|~{3,})[ \t]*(?:diff|patch)[^\n`]*\n(?P<text>.*?)(?:^(?P=mark)[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
ASKS: Final = "NEEDS HUMAN:"
SYSTEM: Final = f"""\
You carry out one task in a Git repository by a single answer. You cannot run commands, open files
or ask back: all there is to know is in the message below. The program that asks you writes the
files of the agent's folder and makes the commit; leave aside what the message says about those.

Answer in Markdown: first, in short, what you did and what is left open. Where files of the
repository are to change, add ONE fence that begins with ```diff and holds one unified diff of all
changes as `git diff` prints it: for each file `--- a/PATH` and `+++ b/PATH`, counted from the root
of the repository (`--- /dev/null` for a new one, `+++ /dev/null` for one that goes), hunks with
`@@ -line,count +line,count @@` and three lines of context, copied exactly from the files as they
are shown. Where nothing is to change, add no diff.

Where only a person can decide, begin with {ASKS} and the question instead, and add no diff.
"""


def diff_in(answer: str) -> bytes:
    """Return the diff of an answer, all its pieces in a row; empty where there is none."""
    answer = answer.replace("\r\n", "\n")
    pieces = (found["text"].rstrip("\n") + "\n" for found in _FENCE.finditer(answer))
    return "".join(piece for piece in pieces if piece.strip()).encode("utf-8", "replace")


def question_in(answer: str) -> str:
    """Return what a person is asked, empty where nobody is."""
    text = answer.strip().lstrip("*# ")
    asks = text.upper().startswith(ASKS)
    return text[len(ASKS) :].strip("* \n") or "(no text)" if asks else ""


def first_line(answer: str) -> str:
    """Return the first line of the prose, for a summary."""
    lines = (line.strip("#*> \t") for line in _FENCE.sub("", answer).splitlines())
    return next(filter(None, lines), "The model answered.")[:200]
