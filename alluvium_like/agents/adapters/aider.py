"""aider: `aider --message-file`, text for people, all of it on the standard output.

Each answer of the model is followed by a line `Tokens: … sent, … received.`, so what stands before
such a line is the model's, whatever it looks like. What stands behind the last one is aider's own,
and only there a complaint counts. It has no word for the end, and exits with 0 whatever happened.
So the end is an answer that was received, of which the edits, if it held any, were applied, and no
complaint behind it. Of its standard error the log of requests is read: it alone tells whether
somebody had begun to answer.

It commits nothing, which is left to the daemon: that saves a request, and it cannot commit a merge.
It makes no map of the repository, whose cache would lie in the worktree. A repository's own
`.aider.conf.yml` and `.env` count.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import (
    Adapter,
    Call,
    Invocation,
    Login,
    Reader,
    dollars,
    option,
)
from alluvium_like.agents.adapters.providers import (
    assigned_in,
    hosts_at,
    hosts_of,
    text_of,
    usual_hosts,
)
from alluvium_like.agents.complaints import event_of
from alluvium_like.agents.events import (
    End,
    Event,
    Failure,
    FileChange,
    Message,
    Session,
    Usage,
)
from alluvium_like.lifecycle import AgentOutcome

_CHAT: Final = "chat.md"
_ROUNDED: Final = r"(\d{1,9}(?:\.\d)?k?)"
_TOKENS: Final = re.compile(
    rf"Tokens: {_ROUNDED} sent(?:, \S+ cache write)?(?:, {_ROUNDED} cache hit)?, "
    rf"{_ROUNDED} received\.(?: Cost: \$(\d+\.\d+) message\b.*)?"
)
_COST: Final = re.compile(r"Cost: \$(\d+\.\d+) message\b.*")
_APPLIED: Final = re.compile(r"Applied edit to (.+)")
_COMPLAINT: Final = re.compile(r"litellm\.\w+: |Model \S+ has hit a token limit!")
_OWN_TROUBLE: Final = re.compile(
    r"The LLM did not conform to the edit format\.|Exception while updating files:|"
    r"Only \d+ reflections allowed|Traceback \(most recent call last\)|"
    r"Unable to create .+, skipping edits\.|Skipping edits to |Did not apply edit to |"
    r"Empty response received"
)
_FORMAT: Final = re.compile(r"(?:Main |Editor )?[Mm]odel: .* with (?:editor-)?(\w+)\S* edit format")
_EDITS: Final = {"whole": "```", "udiff": "```diff", "patch": "*** Begin Patch"}
"""How edits begin in these formats; in all others as a block to search for."""
_SEARCH: Final = "<<<<<<< SEARCH"
_STATUS: Final = re.compile(r'.*\bHTTP Request: POST \S+ "HTTP/[\d.]+ (\d{3})')
_NO_ANSWER: Final = "Empty or invalid response"
_BANNER: Final = re.compile(
    r"(?:Aider v\d|(?:Main |Weak |Editor )?[Mm]odel: |Git repo: |Repo-map: |Restored previous |"
    r"HTTPSConnectionPool\()"
)
_BASE: Final = re.compile(r"^\s*[\w-]*api-base\s*:\s*[\"']?(\S+?)[\"']?\s*$", re.MULTILINE)
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
    settings_files = (
        ".aider.conf.yml",
        ".aider.model.settings.yml",
        ".aider.model.metadata.json",
    )

    own_folder = ".aider"

    def invoke(self, call: Call) -> Invocation:
        """Run it without questions. Its chat is kept for the task; a new session empties it."""
        chat = call.home / "aider" / _CHAT
        if not call.session:
            call.keep("aider", _CHAT, text="")
        restore = ("--restore-chat-history",) if call.session else ()
        return Invocation(
            (
                *("--message-file", "/dev/stdin", "--yes-always"),
                *("--no-stream", "--no-pretty", "--no-fancy-input"),
                *("--no-check-update", "--no-show-release-notes", "--no-show-model-warnings"),
                *("--no-gitignore", "--no-auto-commits", "--no-dirty-commits"),
                *("--no-suggest-shell-commands", "--no-detect-urls", "--map-tokens", "0"),
                *("--chat-history-file", str(chat)),
                *("--input-history-file", str(chat.with_name("input"))),
                *(*restore, *option("--model", call.model), *call.arguments),
            ),
            {
                "AIDER_ANALYTICS": "false",
                "BROWSER": "true",  # it opens pages about what went wrong: with this program, none
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "OPENAI_LOG": "info",
                "COLUMNS": "1000",  # else it breaks lines at 80
            },
            call.stdin,
        )

    def reader(self, call: Call) -> Reader:
        """Read what it prints for people."""
        return _Reader()

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Look at keys, and into its own settings and the file of variables, too."""
        home = Path(environment.get("HOME", ""))
        told = {**assigned_in(text_of(home / ".env")), **environment}
        own = hosts_at(_BASE.findall(text_of(home / ".aider.conf.yml")))
        return (*own, *hosts_of(told)) or usual_hosts()

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
        self._edits = {_SEARCH}
        self._has_edits = self._unapplied = False
        self._status = ""

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
            self._note(text)
            self._lines.append(text)

    def _note(self, text: str) -> None:
        """See what a line says of edits: those that an answer holds, and that are applied."""
        if not self._answers and (found := _FORMAT.fullmatch(text.partition(",")[0])):
            self._edits.add(_EDITS.get(found[1], _SEARCH))
        if text.startswith(tuple(self._edits)):
            self._has_edits = True
        elif _APPLIED.fullmatch(text):
            self._unapplied = False

    def _answer(self) -> Iterator[Event]:
        """Yield the model's answer, which is whole, and what aider did before it."""
        if not self._answers:
            yield Session(_CHAT)
        self._answers += 1
        self._unapplied |= self._has_edits
        self._has_edits, self._status = False, ""
        lines = [line for line in self._lines if not _BANNER.match(line)]
        self._lines.clear()
        if text := "\n".join(lines).strip():
            yield Message(text)

    def error_line(self, text: str) -> Iterable[Event]:
        if found := _STATUS.match(text[:_LONGEST_LINE]):
            self._status = found[1]
        return ()

    def finish(self) -> Iterable[Event]:
        complaint = own = ""
        for line in self._lines:
            if _COMPLAINT.match(line):
                complaint = line
            elif _OWN_TROUBLE.match(line):
                own = line
            elif self._answers and (found := _APPLIED.fullmatch(line)):
                yield FileChange(found[1])
        if not complaint and not own and self._unapplied:
            said = next((line for line in reversed(self._lines) if line), "nothing")
            own = f"the model's edits were not applied; it says: {said}"
        if complaint:
            yield self._meaning(complaint)
        elif own:
            yield Failure(own)
        if complaint or own:
            yield End(ok=False, text=complaint or own)
        elif self._received:
            yield End(ok=True)

    def _meaning(self, complaint: str) -> Event:
        """Return what a complaint tells; an answer that was begun and then lost is no silence."""
        event = event_of(complaint, int(self._status) if self._status else None)
        lost = isinstance(event, Failure) and event.outcome is AgentOutcome.UNREACHABLE
        lost = lost and self._status == "200" and _NO_ANSWER not in complaint
        return Failure(complaint, AgentOutcome.CRASHED) if lost else event


def _number(told: str) -> int:
    """Return what stands behind a rounded number such as 1.2k."""
    return round(float(told.rstrip("k")) * (1000 if told.endswith("k") else 1))
