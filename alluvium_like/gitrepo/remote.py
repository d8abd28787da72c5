"""A remote of the owner's repository: its branch is looked at, fetched and pushed, never forced.

Its URLs come from the owner's configuration alone. git runs in integration.git with the owner's
environment and only those of the owner's settings that say how to get there and who asks; nothing
but the URL's own protocol is allowed, no hook runs, nobody is asked at a terminal. URLs and
settings travel in the environment, never in arguments, and what git says is masked.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import anyio

from alluvium_like.errors import GitFailed
from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo.journal import ANY
from alluvium_like.gitrepo.landing import Owner
from alluvium_like.gitrepo.runner import Git, first_line, full_ref, null_split
from alluvium_like.gitrepo.workshop import is_object_id

DEADLINE_SECONDS = 300.0
_NAME = "alluvium"  # what the remote is called while git runs
_NO_SUCH_REMOTE = 2
_PROTOCOLS = {
    **dict.fromkeys(("ssh", "git+ssh", "ssh+git"), "ssh"),
    **{name: name for name in ("https", "http", "git", "file")},
}
_SCHEME = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)(::|://)")
_SETTINGS = re.compile(r"(credential|http)\..*|core\.(sshcommand|gitproxy)|ssh\.variant", re.DOTALL)
_OWNERS = frozenset({"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT"})
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=30"
_NOBODY_TO_ASK = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS_REQUIRE": "never"}
_SYSTEM = ("GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?'\"]*\?)[^\s'\"]+")
_EMPTY_TALK = ("fatal: Could not read from remote repository.", "Please make sure you have")
_LONGEST_REASON = 300
_SHORTEST_SECRET = 4


@dataclass(frozen=True, slots=True)
class Pushed:
    """The remote's branch is at the commit now."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Others were quicker: the push would have been no fast-forward."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The remote cannot be used now, and why: one line without a secret."""

    reason: str


@dataclass(frozen=True, slots=True)
class Remote:
    """One branch of a remote, and the bare repository of ours that deals with it.

    Two refs remember it: `agreed`, what the remote and the base last had in common, and what was
    fetched.
    """

    name: str
    branch: str
    git: Git
    store: Path
    settings: Sequence[tuple[str, str]] = field(repr=False)
    fetch_url: str = field(repr=False)
    push_url: str = field(repr=False)

    @property
    def title(self) -> str:
        """The branch as people call it, such as `origin/main`."""
        return f"{self.name}/{self.branch}"

    @property
    def is_one_place(self) -> bool:
        """Tell whether it is pushed to where it is fetched from."""
        return self.fetch_url == self.push_url

    @property
    def shown_url(self) -> str:
        """Where it is pushed to, without secrets."""
        return masked(self.push_url, self.push_url)

    async def tip(self) -> str | Unreachable:
        """Return the commit that the branch is at, empty where there is no such branch."""
        done = await self._reach(self.fetch_url, "ls-remote", "--heads", _NAME, self._ref)
        if isinstance(done, Unreachable):
            return done
        rows = [line.split("\t") for line in done.stdout.decode(errors="replace").splitlines()]
        found = [row[0] for row in rows if len(row) == 2 and row[1] == self._ref]
        if not found or is_object_id(found[0]):
            return found[0] if found else ""
        return Unreachable("it gives no answer that can be understood")

    async def fetch(self, tip: str) -> str | Unreachable:
        """Bring the branch here, unless it is here already; return the commit that came.

        Raises GitFailed where our own repository fails.
        """
        fetched = f"refs/alluvium/fetched/{self.title}"
        if await self._resolve(fetched) == tip:
            return tip
        with self.git.refs.writing(self.store, {fetched: ANY}) as came:
            done = await self._reach(
                self.fetch_url,
                "fetch",
                "--quiet",
                "--no-write-fetch-head",
                "--no-tags",
                "--no-recurse-submodules",
                _NAME,
                f"+{self._ref}:{fetched}",
            )
            came[fetched] = await self._resolve(fetched)
        return done if isinstance(done, Unreachable) else came[fetched]

    async def push(self, commit: str) -> Pushed | Rejected | Unreachable:
        """Move the branch forward to a commit, or make it; never anything but a fast-forward."""
        done = await self._reach(
            self.push_url,
            "push",
            "--porcelain",
            "--no-verify",
            "--no-follow-tags",
            "--no-signed",
            "--recurse-submodules=no",
            _NAME,
            f"{commit}:{self._ref}",
            accept=frozenset({0, 1}),
        )
        if isinstance(done, Unreachable):
            return done
        if done.code == 0:
            return Pushed()
        fields = [line.split("\t") for line in done.stdout.decode(errors="replace").splitlines()]
        summary = next((f[-1] for f in fields if f[0] == "!"), "")
        if summary.startswith("[rejected]"):
            return Rejected()
        stderr = done.stderr.decode(errors="replace").splitlines()
        said = [line.removeprefix("remote:").strip() for line in stderr if line[:7] == "remote:"]
        reason = ": ".join(filter(None, (summary, *[text for text in said if text][:1])))
        return Unreachable(self._plain(reason) if reason else self._why(done.stderr))

    async def agreed(self) -> str:
        """Return what the remote and the base last had in common, empty before the first time."""
        return await self._resolve(self._agreed)

    async def agree(self, commit: str) -> None:
        """Remember what the remote and the base have in common. Raises GitFailed."""
        with anyio.CancelScope(shield=True):  # a stop that cut git off would leave a lock behind
            with self.git.refs.writing(self.store, {self._agreed: commit}):
                await self.git.run("update-ref", self._agreed, commit, git_dir=self.store)

    @property
    def _ref(self) -> str:
        return full_ref(self.branch)

    @property
    def _agreed(self) -> str:
        return f"refs/alluvium/upstream/{self.title}"

    async def _resolve(self, ref: str) -> str:
        done = await self.git.run(
            *("rev-parse", "--verify", "--quiet", ref),
            git_dir=self.store,
            accept=frozenset({0, 1}),
        )
        return first_line(done)

    async def _reach(
        self, url: str, *args: str, accept: frozenset[int] = frozenset({0})
    ) -> Completed | Unreachable:
        protocol = protocol_of(url)
        settings = [*self.settings, (f"remote.{_NAME}.url", url)]
        around = surroundings(self.git.source, protocol, settings)
        try:
            with anyio.fail_after(DEADLINE_SECONDS):
                return await self.git.run(
                    *args, git_dir=self.store, accept=accept, surroundings=around
                )
        except TimeoutError:
            return Unreachable(f"no answer within {DEADLINE_SECONDS:g} s")
        except GitFailed as error:
            return Unreachable(self._why(error.stderr.encode(errors="replace")))

    def _why(self, stderr: bytes) -> str:
        """Return the line of git's that says what is wrong."""
        lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
        empty = (n for n, line in enumerate(lines) if line.startswith(_EMPTY_TALK))
        told = [line for line in lines[: next(empty, None)] if line]
        return self._plain(told[-1] if told else "git gives no reason")

    def _plain(self, text: str) -> str:
        text = masked(text.removeprefix("fatal: "), self.fetch_url, self.push_url)
        return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_REASON]


async def open_remote(
    git: Git, owner: Owner, store: Path, name: str, place: Path
) -> Remote | Unreachable:
    """Read where a remote is; a relative path counts from `place`, the owner's repository.

    Nobody is spoken to yet. Raises GitFailed where the owner's configuration cannot be read.
    """
    urls = []
    for more in ((), ("--push",)):
        done = await git.run(
            *("remote", "get-url", *more, "--", name),
            git_dir=owner.git_dir,
            owner=True,
            accept=frozenset({0, _NO_SUCH_REMOTE}),
        )
        url = done.stdout.decode(errors="surrogateescape").removesuffix("\n")
        if done.code or not url:
            return Unreachable(
                f"the repository has no remote '{name}'; make it with 'git remote add', or change "
                "[integration].push in config.toml"
            )
        if not protocol_of(url):
            return Unreachable(
                f"the URL of the remote '{name}' ({_kind(url)}) cannot be used: only ssh, https, "
                "http, git and paths are, and nothing that runs a program"
            )
        urls.append(_absolute(url, place))
    settings = await settings_of(git, owner)
    return Remote(name, owner.base_branch, git, store, settings, *urls)


async def settings_of(git: Git, owner: Owner) -> list[tuple[str, str]]:
    """Return those of the owner's settings that say how to get anywhere, and who asks.

    Raises GitFailed where the owner's configuration cannot be read.
    """
    done = await git.run("config", "--list", "--null", git_dir=owner.git_dir, owner=True)
    pairs = (entry.partition("\n") for entry in null_split(done.stdout))
    settings = [(key, value if given else "true") for key, given, value in pairs]
    return [pair for pair in settings if _SETTINGS.fullmatch(pair[0])]


def protocol_of(url: str) -> str:
    """Return the protocol that git would use for a URL, empty for what is not to be used."""
    named = _SCHEME.match(url)
    if named is not None:
        return _PROTOCOLS.get(named[1], "") if named[2] == "://" else ""
    host, colon, _ = url.partition(":")
    return "ssh" if colon and "/" not in host else "file"


def masked(text: str, *urls: str) -> str:
    """Return a text without what URLs in it, or the given ones, hold of users and secrets."""
    for secret in sorted(_secrets(urls), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))


def _secrets(urls: Sequence[str]) -> set[str]:
    """Return passwords and tokens; what is very short is no secret and occurs everywhere."""
    found: set[str] = set()
    for url in urls:
        user = re.match(r"([A-Za-z0-9+.-]+)://(.*)@", url)
        if user is None:
            continue
        _, colon, password = user[2].partition(":")
        if colon:
            found |= {user[2], password, unquote(password)}
        elif "/" not in user[2] and user[1].startswith("http"):
            found |= {user[2], unquote(user[2])}
    return {text for text in found if len(text) >= _SHORTEST_SECRET}


def _kind(url: str) -> str:
    named = _SCHEME.match(url)
    return f"{named[1]}{named[2]}" if named is not None else "a path"


def _absolute(url: str, place: Path) -> str:
    if _SCHEME.match(url) or protocol_of(url) != "file" or url.startswith("~"):
        return url
    return str(place / url)


def surroundings(
    source: Mapping[str, str], protocol: str, settings: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """Return the environment: the owner's, with what steers git replaced by the given settings."""
    kept = {k: v for k, v in source.items() if not k.startswith("GIT_") or k in _OWNERS}
    kept.pop("SSH_ASKPASS", None)
    settings = list(settings)
    if not any(key == "core.sshcommand" for key, _ in settings) and "GIT_SSH" not in kept:
        settings.append(("core.sshCommand", _SSH))
    kept |= _NOBODY_TO_ASK | {"GIT_ALLOW_PROTOCOL": protocol, "LC_ALL": "C"}
    kept |= {"GIT_CONFIG_COUNT": str(len(settings)), "GIT_NO_REPLACE_OBJECTS": "1"}
    for number, (key, value) in enumerate(settings):
        kept |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    if protocol != "file":  # else the other side is a git of ours too, and needs safe.directory
        kept |= dict(zip(_SYSTEM, ("1", os.devnull), strict=True))
    return kept
