"""Every command of the README works as written: run against a real service, its output compared with the block below it.

Blocks marked `sh` install, download or serve and are not run; the commands, extras and targets that they name must exist.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from asr_service.cli.calls import calls
from asr_service.cli.children import Ports
from tests.stack.processes import EXPECTED, ROOT, Up, environ, run, up

README = (ROOT / "README.md").read_text()
NOT_RUN = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.M | re.S)
DEFAULTS = Ports(50051, 8000, 9464)


@dataclass(frozen=True)
class Example:
    """A block that is run, and what must be in its output."""

    language: str
    text: str
    expected: str


def examples() -> list[Example]:
    found = re.findall(r"^```(bash|python)\n(.*?)^```\n\n```text\n(.*?)^```$", README, flags=re.M | re.S)
    return [Example(language, text, expected.strip()) for language, text, expected in found]


@pytest.fixture(scope="module")
def running() -> Iterator[Up]:
    with up() as started:
        started.wait_for("asyncio.run(main())")
        yield started


@pytest.mark.parametrize("example", examples(), ids=lambda e: e.text.split("\n")[0][:40])
def test_the_command_prints_what_the_readme_says(example: Example, running: Up) -> None:
    text = with_ports(example.text, running.ports)
    arguments = [sys.executable, "-c", text] if example.language == "python" else ["bash", "-euo", "pipefail", "-c", text]

    result = run(arguments, environ(running.ports))

    assert result.returncode == 0, result.stderr
    assert example.expected in result.stdout


def test_every_block_that_can_be_run_is_run() -> None:
    assert len(examples()) == len(re.findall(r"^```(?:bash|python)$", README, flags=re.M))
    assert len(examples()) >= 8


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^(?:\S+/)?asr ((?:[a-z]+ )+)", "\n".join(NOT_RUN), flags=re.M))))
def test_a_command_that_is_not_run_exists(command: str) -> None:
    result = run([sys.executable, "-m", "asr_service", *command.split(), "--help"], environ(DEFAULTS))

    assert result.returncode == 0, result.stderr


def test_every_extra_that_is_named_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert set(re.findall(r"\.\[(\w+)\]", README)) <= extras.keys()
    assert set(re.findall(r"`\[(\w+)\]`", README)) <= extras.keys()


def test_the_version_of_torch_is_the_one_that_is_pinned() -> None:
    assert set(re.findall(r"torch==([\d.]+)", README)) == set(
        re.findall(r"^torch==([\d.]+)$", (ROOT / "constraints.txt").read_text(), flags=re.M)
    )


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z]+)\b", README))
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))

    assert named - {"it"} <= defined


def test_the_calls_that_up_prints_are_those_of_the_readme() -> None:
    printed = calls("127.0.0.1", DEFAULTS, Path("tests/data/sample.flac"), Path(".venv/bin"), with_key=False)

    assert printed[0].command.removeprefix("curl ") in README
    assert printed[1].command in README


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_calls_that_up_prints_work(index: int, running: Up) -> None:
    call = calls("127.0.0.1", running.ports, Path("tests/data/sample.flac"), Path(sys.executable).parent, with_key=False)[index]

    result = run(["bash", "-euo", "pipefail", "-c", call.command], os.environ)

    assert result.returncode == 0, result.stderr
    assert EXPECTED in result.stdout


def with_ports(text: str, ports: Ports) -> str:
    text = text.replace("127.0.0.1:50051", f"127.0.0.1:{ports.grpc}").replace("127.0.0.1:8000", f"127.0.0.1:{ports.http}")
    return text.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
