"""How words that are not ours stand in a text that is."""

from typing import Final

_SUBJECT_LENGTH: Final = 72


def one_line(text: str) -> str:
    """Return the first line that says something, no longer than a commit's subject may be."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0][:_SUBJECT_LENGTH] if lines else ""


def fenced(text: str) -> str:
    """Return a text as a block of Markdown that nothing in it can end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}"
