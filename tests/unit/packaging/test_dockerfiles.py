"""The images: as far as they can be looked at without an engine that builds them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

from asr_service.app import serving
from asr_service.config import Settings
from tests.unit.packaging.sources import DOCKERFILES, ROOT, run

SERVICE, BRIDGE = DOCKERFILES


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and argument, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [(name, argument) for name, _, argument in (line.partition(" ") for line in text.splitlines() if line)]


def arguments(path: Path, name: str) -> list[str]:
    return [argument for found, argument in instructions(path) if found == name]


def health_command(path: Path) -> list[str]:
    (check,) = arguments(path, "HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD ")[2])
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """An HTTP server that answers everything with this; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    answer = run("hadolint", path)

    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_image_that_is_built_on_has_a_version(path: Path) -> None:
    defaults = dict(argument.split("=", 1) for argument in arguments(path, "ARG"))
    images = [value for name, value in defaults.items() if name.endswith("_IMAGE")]
    stages = {argument.split(" AS ")[1] for argument in arguments(path, "FROM")}
    bases = {argument.split(" AS ")[0] for argument in arguments(path, "FROM")}

    assert images
    assert all(re.search(r":\d+\.\d+\.\d+-", image) for image in images)
    assert all(base in stages or base.startswith(("${", "torch-for-${")) for base in bases)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_it_runs_as_a_user_without_rights(path: Path) -> None:
    assert set(arguments(path, "USER")) == {"10001:10001"}
    finals = {"cpu", "cuda"} if path == SERVICE else {"running"}
    users, stage = set(), ""
    for name, argument in instructions(path):
        stage = argument.split(" AS ")[1] if name == "FROM" else stage
        if name == "USER":
            users.add(stage)
    assert users == finals


def test_the_context_holds_what_is_copied_and_little_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    named = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for path in DOCKERFILES
        for argument in arguments(path, "COPY")
        if not argument.startswith("--from")
        for source in argument.split()[:-1]
    }

    assert lines[0] == "*"
    assert named == copied
    assert all((ROOT / name).exists() for name in named)


def test_the_bridge_has_every_package_that_it_imports_and_no_recogniser() -> None:
    graph = grimp.build_graph("rest_bridge", "asr_service", include_external_packages=True, cache_dir=None)
    own = {"rest_bridge", *graph.find_descendants("rest_bridge")}
    reached = own | {upstream for module in own for upstream in graph.find_upstream_modules(module)}
    externals = {name.partition(".")[0] for name in reached if graph.is_module_squashed(name)} - sys.stdlib_module_names
    known = packages_distributions()
    # `google` is shared by two; the rest of its owners is for the tests.
    owners = {owner for name in externals - {"google"} for owner in known[name]} | {"protobuf", "googleapis-common-protos"}
    (command,) = [argument for argument in arguments(BRIDGE, "RUN") if "pip install -c" in argument]
    installed = set(command.partition("constraints.txt")[2].split())

    # pydantic is what pydantic-settings is made on.
    assert {owner.lower().replace("_", "-") for owner in owners} - {"pydantic"} <= installed
    assert not installed & {"torch", "numpy", "av", "onnxruntime", "pocketsphinx", "soxr", "transformers"}


async def test_the_services_health_command_follows_its_health() -> None:
    command = health_command(SERVICE)
    async with serving(Settings.load(grpc_port=0, metrics_enabled=False, engine="fake", decode_workers=1)) as running:
        port = running.address.rpartition(":")[2]
        environ = {**os.environ, "GRPC_PORT": port}
        serving_status = (await asyncio.to_thread(run, *command, env=environ)).returncode
        await running.drain()
        drained_status = (await asyncio.to_thread(run, *command, env=environ)).returncode

    assert (serving_status, drained_status) == (0, 1)


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1)])
def test_the_bridges_health_command_follows_its_readiness(status: int, exit_status: int) -> None:
    with answering(status) as port:
        answer = run(*health_command(BRIDGE), env={**os.environ, "HTTP_PORT": str(port)})

    assert answer.returncode == exit_status
