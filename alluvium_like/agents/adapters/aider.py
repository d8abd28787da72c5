"""aider: `aider --message-file`, text for people, all of it on the standard output.

Each answer of the model is followed by a line `Tokens: … sent, … received.`, so what stands before
such a line is the model's, whatever it looks like. What stands behind the last one is aider's own,
and only there a complaint counts. An answer that was received, and no complaint behind it, is the
end: it has no word for it, and exits with 0 whatever happened.

It commits nothing, which is left to the daemon: that saves a request, and it cannot commit a merge.
It makes no map of the repository, whose cache would lie in the worktree. A repository's own
`.aider.conf.yml` and `.env` count.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import Adapter, Call, Invocation, Login, Reader, dollars
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import End, Event, FileChange, Message, Session, Usage
from alluvium_like.masking import mask

_CHAT: Final = "chat.md"
_TOKENS: Final = re.compile(
    r"Tokens: (\d+(?:\.\d)?k?) sent(?:, \S+ cache write)?(?:, (\S+) cache hit)?, "
    r"(\d+(?:\.\d)?k?) received\.(?: Cost: \$(\d+\.\d+) message\b.*)?"
)
_COST: Final = re.compile(r"Cost: \$(\d+\.\d+) message\b.*")
_APPLIED: Final = re.compile(r"Applied edit to (.+)")
_COMPLAINT: Final = re.compile(r"litellm\.\w+: |Model \S+ has hit a token limit!")
_BANNER: Final = re.compile(
    r"(?:Aider v\d|(?:Main |Weak |Editor )?[Mm]odel: |Git repo: |Repo-map: |Restored previous )"
)
_MOST_LINES: Final = 1000
_LONGEST_LINE: Final = 4000


class Aider(Adapter):
    """The command line of aider."""

    name = "aider"
    program = "aider"
    install = "pip install aider-chat"
    resumes = True
    key_variables = (
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"),
        *("OPENROUTER_API_KEY", "DEEPSEEK_API_KEY"),
    )
    login_files = (".aider/oauth-keys.env",)

    def invoke(self, call: Call) -> Invocation:
        """Run it without questions. Its chat is kept for the task; a new session empties it."""
        if call.session:
            message = call.keep("aider", "message.md", text=mask(call.prompt))
            chat = message.with_name(_CHAT)
        else:
            message = call.prompt_file
            chat = call.keep("aider", _CHAT, text="")
        restore = ("--restore-chat-history",) if call.session else ()
        model = ("--model", call.model) if call.model else ()
        return Invocation(
            (
                *("--message-file", str(message), "--yes-always"),
                *("--no-stream", "--no-pretty", "--no-fancy-input"),
                *("--no-check-update", "--no-show-release-notes", "--no-show-model-warnings"),
                *("--no-gitignore", "--no-auto-commits", "--no-dirty-commits"),
                *("--no-suggest-shell-commands", "--no-detect-urls", "--map-tokens", "0"),
                *("--chat-history-file", str(chat)),
                *("--input-history-file", str(chat.with_name("input"))),
                *(*restore, *model, *call.arguments),
            ),
            {
                "AIDER_ANALYTICS": "false",
                "BROWSER": "true",  # it opens pages about what went wrong: with this program, none
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "COLUMNS": "1000",  # else it breaks lines at 80
            },
        )

    def reader(self, call: Call) -> Reader:
        """Read what it prints for people."""
        return _Reader()

    def login(self, environment: Mapping[str, str]) -> Login:
        """Look for a key in its configuration, too; a model of this machine needs none."""
        try:
            kept = Path(environment["HOME"], ".aider.conf.yml").read_text(errors="replace")
        except (OSError, LookupError):
            kept = ""
        if re.search(r"^\s*(?:\w+-)?api-key\s*:", kept, re.MULTILINE):
            return Login(True, "with the key in ~/.aider.conf.yml")
        seen = super().login(environment)
        return seen if seen.ready else Login(None, "not known; a model of this machine needs none")


class _Reader(Reader):
    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._answers = 0
        self._received = False

    def line(self, text: str) -> Iterable[Event]:
        text = text[:_LONGEST_LINE]
        if found := _TOKENS.fullmatch(text):
            yield from self._answer()
            cost = dollars(float(found[4])) if found[4] else None
            used = Usage(_number(found[1]), _number(found[2] or "0"), _number(found[3]), cost)
            self._received = used.output_tokens > 0
            yield used
        elif self._answers and (found := _COST.fullmatch(text)):
            yield Usage(cost=dollars(float(found[1])))
        else:
            self._lines.append(text)

    def _answer(self) -> Iterator[Event]:
        """Yield the model's answer, which is whole, and what aider did before it."""
        if not self._answers:
            yield Session(_CHAT)
        self._answers += 1
        lines = [line for line in self._lines if not _BANNER.match(line)]
        self._lines.clear()
        if text := "\n".join(lines).strip():
            yield Message(text)

    def finish(self) -> Iterable[Event]:
        complaint = ""
        for line in self._lines:
            if _COMPLAINT.match(line):
                complaint = line
            elif self._answers and (found := _APPLIED.fullmatch(line)):
                yield FileChange(found[1])
        if complaint:
            yield event_of(complaint)
            yield End(ok=False, text=complaint)
        elif self._received:
            yield End(ok=True)


def _number(told: str) -> int:
    """Return what stands behind a rounded number such as 1.2k."""
    thousands = told.endswith("k")
    try:
        return round(float(told.rstrip("k")) * (1000 if thousands else 1))
    except ValueError:
        return 0
