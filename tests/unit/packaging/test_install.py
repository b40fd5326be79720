"""What the Dockerfiles install, installed the same way into virtual environments in a temporary folder, and run from there.

The commands are the Dockerfiles' own. What stays untried is what only an image has: its base, its user, its read-only root.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from asr_service.cli.children import free_port
from asr_service.client import AsrClient
from tests.unit.packaging.sources import ROOT, run
from tests.unit.packaging.test_dockerfiles import BRIDGE, SERVICE, health_command, instructions

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SAMPLE = ROOT / "tests/data/sample.flac"
CHECKPOINT = ROOT / "tests/data/qwen3/small"
SPOKEN = ROOT / "tests/data/qwen3/speech/clean-en-06.flac"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Image:
    """A folder like an image: `bin` is its environment's, `root` where it lies, away from the source."""

    root: Path

    @property
    def bin(self) -> Path:
        return self.root / "asr/bin"

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LANG", "HTTP", "HTTPS"))}
        path = f"{self.bin}:{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin"
        # Not every machine reaches PyTorch's own index.
        index = os.environ.get("TORCH_INDEX", "https://pypi.org/simple")
        return {**kept, "PATH": path, "HOME": str(self.root), "TORCH_INDEX": index, "HF_HOME": str(self.root / "models")}

    def size_mib(self) -> float:
        return sum(path.stat().st_size for path in self.root.joinpath("asr").rglob("*") if path.is_file()) / 2**20


def built(root: Path, dockerfile: Path, stages: list[str]) -> Image:
    """Runs the instructions of the stages: COPY from the source, RUN of Python only."""
    image, source = Image(root), root / "src"
    source.mkdir(parents=True)
    stage = ""
    for name, argument in instructions(dockerfile):
        if name == "FROM":
            stage = argument.split(" AS ")[1]
        elif stage in stages and name == "COPY" and not argument.startswith("--from"):
            for path in argument.split()[:-1]:
                (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, source / path)
        elif stage in stages and name == "RUN":
            command = re.sub(r"--mount=\S+", "", argument).replace("/opt/asr", str(root / "asr"))
            done = run("bash", "-ec", command, cwd=source, env=image.environ)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    shutil.rmtree(source)
    return image


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return built(tmp_path_factory.mktemp("service"), SERVICE, ["installing", "installed-cpu"])


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return built(tmp_path_factory.mktemp("bridge"), BRIDGE, ["installed"])


@contextmanager
def running(image: Image, *command: str, **settings: str) -> Iterator[None]:
    """A process of the image; on leaving it must end by itself, with 0, after SIGTERM."""
    environ = {**image.environ, "HOST": HOST, "LOG_LEVEL": "warning", **settings}
    with subprocess.Popen([str(image.bin / command[0]), *command[1:]], cwd=image.root, env=environ) as process:
        try:
            yield
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


def wait_ready(port: int) -> None:
    async def wait() -> None:
        async with AsrClient(f"{HOST}:{port}") as client:
            await client.wait_ready(120)

    asyncio.run(wait())


@pytest.mark.parametrize(
    ("engine", "recording", "text"),
    [
        ({"ENGINE": "auto"}, SAMPLE, SAMPLE.with_suffix(".txt").read_text().strip()),
        ({"ENGINE": "qwen3", "MODEL_ID": str(CHECKPOINT)}, SPOKEN, "what is my next question"),
    ],
    ids=["embedded", "qwen3"],
)
def test_the_service_transcribes_and_is_healthy(service: Image, engine: dict[str, str], recording: Path, text: str) -> None:
    port = free_port()
    with running(service, "asr", "serve", GRPC_PORT=str(port), METRICS_ENABLED="false", **engine):
        wait_ready(port)
        health = [str(service.bin / "python"), *health_command(SERVICE)[1:]]
        healthy = run(*health, env={**service.environ, "GRPC_PORT": str(port)})
        said = run(service.bin / "asr", "transcribe", "--server", f"{HOST}:{port}", recording, env=service.environ)

    assert healthy.returncode == 0, healthy.stderr
    assert said.stdout.strip() == text, said.stderr


def test_the_bridge_needs_no_more_than_it_has(service: Image, bridge: Image) -> None:
    grpc_port, http_port = free_port(), free_port()
    ports = {"GRPC_PORT": str(grpc_port), "HTTP_PORT": str(http_port)}
    with (
        running(service, "asr", "serve", METRICS_ENABLED="false", ENGINE="pocketsphinx", **ports),
        running(bridge, "python", "-m", "rest_bridge", ASR_TARGET=f"{HOST}:{grpc_port}", HTTP_PORT=str(http_port)),
    ):
        wait_ready(grpc_port)
        url = f"http://{HOST}:{http_port}"
        up = ["curl", "-sS", "--retry", "60", "--retry-delay", "1", "--retry-all-errors", "--fail"]
        ready = run(*up, f"{url}/ready")
        healthy = run(bridge.bin / "python", *health_command(BRIDGE)[1:], env={**bridge.environ, "HTTP_PORT": str(http_port)})
        said = run("curl", "-sS", "-F", f"file=@{SAMPLE}", "-F", "response_format=text", f"{url}/v1/audio/transcriptions")

    assert ready.returncode == 0, ready.stderr
    assert healthy.returncode == 0, healthy.stderr
    assert said.stdout.strip() == SAMPLE.with_suffix(".txt").read_text().strip()
    assert not list(bridge.root.glob("asr/lib/python*/site-packages/torch"))
    assert bridge.size_mib() < service.size_mib() / 4
