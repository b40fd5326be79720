"""The commands as a user types them, with real processes and the embedded engine."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import wave
from pathlib import Path

import psutil
import pytest

from asr_service.cli.calls import calls
from asr_service.cli.children import Ports, free_port, is_free
from asr_service.cli.demo_qwen3 import find_qwen3_demo
from asr_service.engines import extras
from tests.stack.processes import EXPECTED, SAMPLE, environ, run, up

ASR = [sys.executable, "-m", "asr_service"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_gets_ready_prints_three_calls_and_drains_on_a_signal(number: signal.Signals) -> None:
    with up() as running:
        running.wait_for("asyncio.run(main())")

        assert f"http://127.0.0.1:{running.ports.http}/v1/audio/transcriptions" in running.printed
        assert f"http://127.0.0.1:{running.ports.grpc}/asr.v1.AsrService/Transcribe" in running.printed
        assert running.stop(number) == 0

    assert all(is_free("127.0.0.1", port) for port in (running.ports.grpc, running.ports.http))


def test_up_ends_with_1_and_says_who_died() -> None:
    with up() as running:
        running.wait_for("asyncio.run(main())")
        children = psutil.Process(running.process.pid).children()
        next(child for child in children if "rest_bridge" in child.cmdline()).kill()

        running.wait_for("the bridge was killed by SIGKILL")

        assert running.process.wait(60) == 1


def test_up_says_which_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = Ports(taken.getsockname()[1], free_port(), free_port())
        result = run([*ASR, "up"], environ(ports))

    assert result.returncode == 1
    assert f"port {ports.grpc} of 127.0.0.1 is taken" in result.stderr
    assert "GRPC_PORT" in result.stderr


def test_the_demo_gets_all_three_right_and_shows_qwen3_beside_the_embedded_engine() -> None:
    result = run([*ASR, "demo"], environ(Ports(0, 0, 0)))

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(EXPECTED) == 4
    assert "all three are right" in result.stdout
    said = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert said["expected"].partition("   ")[0] == said["qwen3"]
    assert said["embedded"]


def test_the_demo_says_how_to_install_what_it_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)

    assert find_qwen3_demo() == (
        "not shown: torch, safetensors, tokenizers, huggingface_hub are not installed (pip install -e '.[qwen3]')"
    )


def test_a_file_is_transcribed_without_any_service() -> None:
    result = run([*ASR, "transcribe", str(SAMPLE)], environ(Ports(0, 0, 0)))

    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, EXPECTED, "")


def test_standard_input_is_transcribed() -> None:
    with SAMPLE.open("rb") as audio:
        result = subprocess.run(
            [*ASR, "transcribe", "-"],
            env=environ(Ports(0, 0, 0)),
            stdin=audio,
            capture_output=True,
            timeout=120,
            check=True,
        )

    assert result.stdout.decode().strip() == EXPECTED


def test_ctrl_c_ends_a_transcription_that_waits_for_input() -> None:
    silence = io.BytesIO()
    with wave.open(silence, "wb") as header:
        header.setparams((1, 2, 16_000, 0, "NONE", ""))
        header.writeframes(bytes(4_000_000))
    command = [*ASR, "transcribe", "-"]
    env = environ(Ports(0, 0, 0))
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(silence.getvalue()[:-1000])  # far more than the pipe holds: when this returns, it is being read
        process.stdin.flush()
        process.send_signal(signal.SIGINT)

        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_a_text_file_is_refused_in_one_line() -> None:
    result = run([*ASR, "transcribe", str(SAMPLE), str(SAMPLE.with_suffix(".txt"))], environ(Ports(0, 0, 0)))

    assert result.returncode == 1
    assert result.stdout == f"{SAMPLE}: {EXPECTED}\n"
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"{SAMPLE.with_suffix('.txt')}: not audio: ")


def test_serve_refuses_a_bad_setting_with_its_name() -> None:
    result = run([*ASR, "serve"], environ(Ports(0, 0, 0), ENGINE="parrot"))

    assert result.returncode == 2
    assert "ENGINE='parrot'" in result.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"set -o pipefail; {sys.executable} -m asr_service transcribe --format json {SAMPLE} | true"

    result = run(["bash", "-c", command], environ(Ports(0, 0, 0)))

    assert (result.returncode, result.stderr) in ((1, ""), (0, ""))


def test_with_keys_the_calls_that_up_prints_show_one() -> None:
    with up(API_KEYS="open-sesame") as running:
        running.wait_for("asyncio.run(main())")
        made = calls("127.0.0.1", running.ports, Path("tests/data/sample.flac"), Path(sys.executable).parent, with_key=True)

        for call in made:
            result = run(["bash", "-euo", "pipefail", "-c", call.command], {**os.environ, "API_KEY": "open-sesame"})
            assert EXPECTED in result.stdout, result.stderr
            refused = run(["bash", "-euo", "pipefail", "-c", call.command], {**os.environ, "API_KEY": "wrong"})
            assert EXPECTED not in refused.stdout
