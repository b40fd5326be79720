"""The command itself: help, usage, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from asr_service.cli.main import app

HEAVY = ("aiohttp", "av", "google.protobuf", "grpc", "numpy", "onnxruntime", "pocketsphinx", "pydantic", "soxr")


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})
    return result.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from asr_service.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", [(), ("serve",), ("up",), ("demo",), ("transcribe",), ("stream",), ("models", "list"), ("info",)]
)
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    code, output = invoke(*command, "--help")

    assert code == 0
    assert "Usage:" in output


@pytest.mark.parametrize("command", ["transcribe", "stream"])
def test_help_documents_the_exit_codes(command: str) -> None:
    _, output = invoke(command, "--help")

    assert "Exit codes" in output


def test_the_version_is_printed() -> None:
    code, output = invoke("--version")

    assert code == 0
    assert re.fullmatch(r"asr \d+\.\d+\.\d+\S*\n", output)


@pytest.mark.parametrize(
    "arguments",
    [
        ("transcribe",),
        ("transcribe", "a.wav", "--format", "doc"),
        ("transcribe", "a.wav", "--words"),
        ("transcribe", "a.wav", "b.wav", "-f", "srt"),
        ("stream",),
        ("stream", "a.wav", "--mic"),
        ("stream", "--mic", "--realtime"),
        ("stream", "a.wav", "--rate", "8000"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    code, _ = invoke(*arguments)

    assert code == 2


def test_a_bad_setting_is_exit_code_2_and_names_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HTTP_PORT", "eight")

    code, output = invoke("up")

    assert code == 2
    assert "HTTP_PORT='eight'" in output + capsys.readouterr().err


def test_no_service_is_exit_code_3() -> None:
    code, _ = invoke("models", "list", "--server", "127.0.0.1:9", "--wait", "0.1")  # the discard port: nobody is there

    assert code == 3
