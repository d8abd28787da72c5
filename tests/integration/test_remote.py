"""A remote as git sees it: where it is, how it is reached, and what becomes of a push."""

import base64
import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import anyio
import pytest

from alluvium_like.gitrepo import remote as remotes
from alluvium_like.gitrepo.landing import Owner
from alluvium_like.gitrepo.remote import (
    Pushed,
    Rejected,
    Remote,
    Unreachable,
    masked,
    open_remote,
    protocol_of,
)
from alluvium_like.gitrepo.runner import Git

SECRET = "s3cr%2Fet-word"
NOBODY = "127.0.0.1:9"  # nobody listens there
SSH_STUB = """\
#!/bin/sh
printf '%s\\n' "$*" >> "{calls}"
env | grep -c '^SSH_ASKPASS=' >> "{calls}"
for last; do :; done
exec sh -c "$last"
"""


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=Owner", "-c", "user.email=owner@example.org"]
    done = subprocess.run(
        ["git", *identity, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )
    return done.stdout.strip()


class Place:
    """The owner's repository, the daemon's, and a bare origin beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.owner, self.store, self.origin = root / "repo", root / "int.git", root / "origin.git"
        self.home = root / "home"
        for folder in (self.owner, self.home):
            folder.mkdir()
        git(root, "init", "-q", "--bare", "-b", "main", str(self.origin))
        git(self.owner, "init", "-q", "-b", "main")
        self.start = self.commit("start")
        git(root, "clone", "-q", "--bare", str(self.owner), str(self.store))
        git(self.owner, "remote", "add", "origin", str(self.origin))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)}

    def commit(self, subject: str) -> str:
        git(self.owner, "commit", "-q", "--allow-empty", "-m", subject)
        return git(self.owner, "rev-parse", "HEAD")

    def mirror(self) -> None:
        git(self.store, "fetch", "-q", str(self.owner), "+main:main")

    def configure(self, *pairs: tuple[str, str]) -> None:
        for key, value in pairs:
            git(self.owner, "config", key, value)

    async def open(self, name: str = "origin") -> Remote | Unreachable:
        owner = Owner(self.owner / ".git", "main", self.owner)
        return await open_remote(
            Git("test", source=self.environment), owner, self.store, name, self.owner
        )

    async def remote(self) -> Remote:
        found = await self.open()
        assert isinstance(found, Remote), found
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("ssh://git@host/x.git", "ssh"),
        ("git+ssh://host/x.git", "ssh"),
        ("git@host:x.git", "ssh"),
        ("host:x.git", "ssh"),
        ("[::1]:x.git", "ssh"),
        ("https://host/x.git", "https"),
        ("http://host/x.git", "http"),
        ("git://host/x.git", "git"),
        ("file:///x.git", "file"),
        ("/x.git", "file"),
        ("../x.git", "file"),
        ("./odd:name.git", "file"),
        ("ext::sh -c 'touch ran'", ""),
        ("https::https://host/x.git", ""),
        ("fd::17", ""),
        ("ftp://host/x.git", ""),
        ("s3://bucket/x", ""),
    ],
)
def test_the_protocol_comes_from_the_url(url: str, protocol: str) -> None:
    assert protocol_of(url) == protocol


async def test_a_branch_that_is_not_there_is_made_and_then_moved_forward(place: Place) -> None:
    remote = await place.remote()
    assert await remote.tip() == ""
    assert await remote.push(place.start) == Pushed()
    assert await remote.tip() == place.start
    new = place.commit("more")
    place.mirror()
    assert await remote.push(new) == Pushed()
    assert git(place.origin, "rev-parse", "main") == new


async def test_a_stop_does_not_cut_off_what_is_remembered_of_the_remote(place: Place) -> None:
    remote = await place.remote()
    with anyio.CancelScope() as stop:
        stop.cancel()
        await remote.agree(place.start)
    assert await remote.agreed() == place.start


async def test_what_others_pushed_is_fetched_and_never_overwritten(place: Place) -> None:
    git(place.owner, "push", "-q", "origin", "main")
    git(place.root, "clone", "-q", str(place.origin), "other")
    git(place.root / "other", "commit", "-q", "--allow-empty", "-m", "theirs")
    git(place.root / "other", "push", "-q", "origin", "main")
    theirs = git(place.root / "other", "rev-parse", "HEAD")
    ours = place.commit("ours")
    place.mirror()
    remote = await place.remote()
    assert await remote.tip() == theirs
    assert await remote.fetch(theirs) == theirs
    assert git(place.store, "cat-file", "-t", theirs) == "commit"
    assert await remote.push(ours) == Rejected()
    assert git(place.origin, "rev-parse", "main") == theirs


async def test_a_branch_whose_name_only_ends_alike_is_not_taken_for_it(place: Place) -> None:
    git(place.owner, "push", "-q", "origin", "main:refs/heads/refs/heads/main")
    assert await (await place.remote()).tip() == ""


async def test_what_a_hook_of_the_remote_refuses_is_told(place: Place) -> None:
    hook = place.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'main is protected here' >&2; exit 1\n")
    hook.chmod(0o755)
    end = await (await place.remote()).push(place.start)
    assert isinstance(end, Unreachable)
    assert "pre-receive hook declined" in end.reason
    assert "main is protected here" in end.reason


async def test_a_relative_path_counts_from_the_owners_repository(place: Place) -> None:
    place.configure(("remote.origin.url", "../origin.git"))
    assert await (await place.remote()).push(place.start) == Pushed()
    assert git(place.origin, "rev-parse", "main") == place.start


async def test_instead_of_in_the_owners_configuration_counts(place: Place) -> None:
    (place.home / ".gitconfig").write_text(
        f'[url "{place.root}/"]\n\tinsteadOf = https://example.org/\n'
    )
    place.configure(("remote.origin.url", "https://example.org/origin.git"))
    assert await (await place.remote()).push(place.start) == Pushed()


async def test_push_goes_to_the_push_url(place: Place) -> None:
    git(place.root, "init", "-q", "--bare", "-b", "main", "fork.git")
    place.configure(("remote.origin.pushurl", str(place.root / "fork.git")))
    remote = await place.remote()
    assert not remote.is_one_place
    assert await remote.push(place.start) == Pushed()
    assert git(place.root / "fork.git", "rev-parse", "main") == place.start
    assert await remote.tip() == ""


async def test_no_hook_of_ours_runs(place: Place) -> None:
    for folder in (place.store, place.owner / ".git"):
        hook = folder / "hooks" / "pre-push"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {place.root}/ran\n")
        hook.chmod(0o755)
    assert await (await place.remote()).push(place.start) == Pushed()
    assert not (place.root / "ran").exists()


# -- programs and protocols --------------------------------------------------------------------


@pytest.mark.parametrize("key", ["remote.origin.url", "url.ext::sh -c 'touch {ran}' .insteadOf"])
async def test_a_url_that_runs_a_program_is_refused(place: Place, key: str) -> None:
    ran = place.root / "ran"
    if key.endswith("insteadOf"):
        place.configure((key.format(ran=ran), str(place.origin)))
    else:
        place.configure((key, f"ext::sh -c 'touch {ran}'"))
    found = await place.open()
    assert isinstance(found, Unreachable)
    assert "ext::" in found.reason
    assert "nothing that runs a program" in found.reason
    assert "\n" not in found.reason
    assert not ran.exists()


def ssh_stub(place: Place) -> Path:
    stub = place.root / "ssh.sh"
    stub.write_text(SSH_STUB.format(calls=place.root / "calls"))
    stub.chmod(0o755)
    return stub


async def test_ssh_runs_with_the_owners_command_and_without_asking(place: Place) -> None:
    stub = ssh_stub(place)
    place.environment["SSH_ASKPASS"] = "/nowhere"
    place.configure(
        ("core.sshCommand", f"{stub} --owners"), ("remote.origin.url", f"me@host:{place.origin}")
    )
    assert await (await place.remote()).push(place.start) == Pushed()
    *_, call, asks = (place.root / "calls").read_text().splitlines()
    assert call.startswith("--owners ")
    assert "me@host git-receive-pack" in call
    assert asks == "0"


async def test_ssh_never_asks_where_the_owner_says_nothing(place: Place) -> None:
    folder = place.root / "bin"
    folder.mkdir()
    ssh_stub(place).rename(folder / "ssh")
    place.environment["PATH"] = f"{folder}:{place.environment['PATH']}"
    place.configure(("remote.origin.url", f"ssh://host{place.origin}"))
    assert await (await place.remote()).push(place.start) == Pushed()
    assert "-oBatchMode=yes" in (place.root / "calls").read_text()


async def test_only_the_urls_own_protocol_is_allowed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the owner allows for his own git, and what redirects us, changes nothing."""
    place.configure(("protocol.allow", "always"), ("remote.origin.url", f"host:{place.origin}"))
    place.configure(("core.sshCommand", str(ssh_stub(place))))
    remote = await place.remote()
    monkeypatch.setattr(remotes, "protocol_of", lambda url: "https")
    end = await remote.push(place.start)
    assert isinstance(end, Unreachable)
    assert "transport 'ssh' not allowed" in end.reason
    assert not (place.root / "calls").exists()


async def test_what_steers_git_in_the_daemons_environment_is_left_out(place: Place) -> None:
    place.environment |= {"GIT_DIR": "/nowhere", "GIT_ALLOW_PROTOCOL": "none", "GIT_TRACE": "1"}
    assert await (await place.remote()).push(place.start) == Pushed()


# -- credentials and secrets -------------------------------------------------------------------


class Doorkeeper(BaseHTTPRequestHandler):
    """Lets nobody in, and remembers what each one showed."""

    shown: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.shown.append(f"{self.headers['Authorization']} {self.headers['X-Pass']}")
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def closed_door() -> Iterator[str]:
    Doorkeeper.shown.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Doorkeeper) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_the_owners_credential_helpers_and_headers_are_used(
    place: Place, closed_door: str
) -> None:
    """The helper of the global configuration, the header of the repository's own."""
    (place.home / ".gitconfig").write_text(
        '[credential]\n\thelper = "!f() { echo username=me; echo password=opensesame; }; f"\n'
    )
    place.configure(
        ("remote.origin.url", f"http://{closed_door}/x.git"), ("http.extraHeader", "X-Pass: 17")
    )
    end = await (await place.remote()).push(place.start)
    assert isinstance(end, Unreachable)
    assert "Authentication failed" in end.reason
    assert "opensesame" not in end.reason
    told = base64.b64encode(b"me:opensesame").decode()
    assert Doorkeeper.shown == ["None 17", f"Basic {told} 17"]


async def test_nobody_is_asked_for_a_password(place: Place, closed_door: str) -> None:
    asks = place.root / "asks"
    asks.write_text(f"#!/bin/sh\ntouch {place.root}/asked\necho word\n")
    asks.chmod(0o755)
    place.environment |= {"GIT_ASKPASS": str(asks), "SSH_ASKPASS": str(asks)}
    place.configure(
        ("remote.origin.url", f"http://{closed_door}/x.git"), ("core.askPass", f"{asks}")
    )
    assert isinstance(await (await place.remote()).tip(), Unreachable)
    assert not (place.root / "asked").exists()


@pytest.mark.parametrize("userinfo", [f"me:{SECRET}", "ghp_0123456789abcdef"])
async def test_no_secret_of_a_url_is_shown(place: Place, userinfo: str) -> None:
    place.configure(("remote.origin.url", f"http://{userinfo}@{NOBODY}/x.git"))
    remote = await place.remote()
    ends = [await remote.tip(), await remote.fetch(place.start), await remote.push(place.start)]
    reasons = [end.reason for end in ends if isinstance(end, Unreachable)]
    assert len(reasons) == 3
    for text in (*reasons, repr(remote), remote.shown_url):
        for secret in (SECRET, "s3cr/et-word", "ghp_0123456789abcdef"):
            assert secret not in text
    assert all("127.0.0.1" in reason for reason in reasons), reasons
    assert remote.shown_url == f"http://***@{NOBODY}/x.git"


def test_masking_leaves_addresses_and_hides_users_and_queries() -> None:
    assert masked("see https://u:p@host/x?token=t and git@host:x") == (
        "see https://***@host/x?*** and git@host:x"
    )
    assert masked("bad port: 'pass/word'", "https://u:pass/word@host/x") == "bad port: '***'"
    assert masked("cannot: git", "ssh://git@host/x") == "cannot: git"


async def test_a_remote_that_does_not_answer_is_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = place.root / "ssh.sh"
    stub.write_text("#!/bin/sh\nexec sleep 1000\n")
    stub.chmod(0o755)
    place.configure(("core.sshCommand", str(stub)), ("remote.origin.url", "host:x.git"))
    monkeypatch.setattr(remotes, "DEADLINE_SECONDS", 0.2)
    assert await (await place.remote()).tip() == Unreachable("no answer within 0.2 s")


async def test_a_remote_that_is_not_there_is_told(place: Place) -> None:
    found = await place.open("backup")
    assert isinstance(found, Unreachable)
    assert "no remote 'backup'" in found.reason
    place.configure(("remote.origin.url", "/nowhere/x.git"))
    end = await (await place.remote()).tip()
    assert isinstance(end, Unreachable)
    assert end.reason == "'/nowhere/x.git' does not appear to be a git repository"
