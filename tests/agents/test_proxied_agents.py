"""The real agent programs where the model is reached through the proxy of a box, and not else.

The model's name is known to the proxy alone: a program that does not go through it finds nobody.
"""

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import install
import pytest
from egress_bed import PUBLIC, World
from model_server.script import Script
from model_server.server import ModelServer
from programs import KEY, Program, chosen

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Call
from alluvium_like.agents.command import AttemptPlaces, build_environment
from alluvium_like.config.agents import Profile

pytestmark = pytest.mark.timeout(300)
NAME = "model.example"
URLS = {"http": f"http://{NAME}:8080", "https": f"https://{NAME}"}
PORTS = (8080, 443)
PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
TRUSTED = ("SSL_CERT_FILE", "CODEX_CA_CERTIFICATE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE")
LEAF = (
    f"-CA ca.pem -CAkey ca.key -addext subjectAltName=DNS:{NAME}"
    " -addext basicConstraints=critical,CA:FALSE"
)


@pytest.fixture(params=chosen(), ids=lambda program: program.name)
def program(request: pytest.FixtureRequest) -> Program:
    program: Program = request.param
    if install.program(program.name) is None:
        pytest.skip(f"{program.name} is not there: python tests/agents/install.py {program.name}")
    return program


@contextmanager
def model(script: Script, folder: Path, scheme: str) -> Iterator[ModelServer]:
    """Serve a model; with https its certificate is signed by that of ca.pem."""
    server = ModelServer(script)
    if scheme == "https":
        making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        for name, more in (("ca", "-subj /CN=ca"), ("key", f"-subj /CN={NAME} {LEAF}")):
            told = f"{making} {more} -keyout {name}.key -out {name}.pem"
            subprocess.run(told.split(), cwd=folder, check=True, capture_output=True)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "key.pem", folder / "key.key")
        server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    with server:
        yield server


async def ask(table: dict[str, Any], key: str, server: ModelServer, folder: Path) -> str:
    """Run an agent where only the proxy of its hosts leads out; return what it prints."""
    profile = Profile(**table)
    adapter = ADAPTERS[profile.preset].of(profile)
    tree, agent, scratch, given = (folder / name for name in ("tree", "agent", "scratch", "input"))
    for each in (tree, agent, scratch, given):
        each.mkdir()
    for told in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m Begin"):
        await anyio.run_process(["git", "-C", str(tree), *told.split()])
    prompt = agent / "prompt.md"
    prompt.write_text("Write hello.txt.")
    places = AttemptPlaces("test", folder, agent, tree, "main", prompt)
    # codex runs nothing where its own folder is below that for temporary files
    source = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(scratch), key: KEY}
    environment = build_environment(places, pass_names=[key], source=source) | profile.fixed
    call = Call(
        worktree=tree,
        prompt=prompt.read_text(),
        prompt_file=prompt,
        home=agent / "sessions",
        arguments=profile.arguments,
        model=profile.model,
        environment=environment,
        command=profile.command,
    )
    invocation, signer = adapter.invoke(call), folder / "ca.pem"
    world = World(names={NAME: [PUBLIC]}, ports={(PUBLIC, port): server.port for port in PORTS})
    async with world.egress(*adapter.hosts(environment, call.arguments, call.model)) as port:
        with anyio.fail_after(120):
            ended = await anyio.run_process(
                [*adapter.program_line(call), *invocation.arguments],
                input=invocation.stdin,
                cwd=tree,
                env={
                    **invocation.environment,
                    **environment,
                    **dict.fromkeys(PROXIES, f"http://127.0.0.1:{port}"),
                    **(dict.fromkeys(TRUSTED, str(signer)) if signer.exists() else {}),
                    **adapter.proxy_environment,
                },
                check=False,
                stderr=subprocess.STDOUT,
            )
    told = ended.stdout.decode(errors="replace")
    assert set(world.connected) == {PUBLIC}, told
    return told


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    if request.param == "https" and shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return str(request.param)


async def test_it_reaches_its_model_through_the_proxy(
    program: Program, scheme: str, tmp_path: Path
) -> None:
    with model(program.script("hello.txt"), tmp_path, scheme) as server:
        table = program.profile(URLS[scheme], tmp_path / "own")
        told = await ask(table, program.key, server, tmp_path)
        assert (tmp_path / "tree/hello.txt").exists(), told
        assert server.requests


async def test_chat_reaches_its_model_through_the_proxy(scheme: str, tmp_path: Path) -> None:
    with model(Script(text="Nothing to do."), tmp_path, scheme) as server:
        table = {"preset": "chat", "base_url": f"{URLS[scheme]}/v1", "models": ["m"], "key": "KEY"}
        told = await ask(table, "KEY", server, tmp_path)
        assert server.requests, told
