"""`asr stream` and the examples as a user runs them, with real processes and a recogniser whose words are known."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr_service.cli.children import Ports, free_port
from tests.stack.processes import ROOT, SAMPLE, environ, run

ASR = [sys.executable, "-m", "asr_service"]
EXAMPLES = ROOT / "docs/examples"
TEXT = "one two three four five six seven eight nine zero one two three four"


def fake_environ(**more: str) -> dict[str, str]:
    return environ(Ports(0, 0, 0), ENGINE="fake", **more)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a service; it is not ready yet."""
    ports = Ports(free_port(), 0, free_port())
    env = environ(ports, ENGINE="fake", LOG_LEVEL="warning")
    with subprocess.Popen([*ASR, "serve"], cwd=ROOT, env=env) as process:
        yield f"127.0.0.1:{ports.grpc}"
        process.terminate()


def asr_stream(*arguments: str, audio: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*ASR, "stream", *arguments]
    return subprocess.run(command, cwd=ROOT, env=fake_environ(), input=audio, capture_output=True, timeout=120, check=False)


def pcm() -> bytes:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from tests.wire import talking; sys.stdout.buffer.write(talking.sample_pcm())"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout


def test_a_file_becomes_lines_without_any_service() -> None:
    result = asr_stream(str(SAMPLE))

    assert (result.returncode, result.stdout.decode()) == (0, f"{TEXT}\n")
    assert result.stderr.decode().startswith("1 utterance in 5.8 s of audio, which took ")


def test_at_its_own_speed_the_delays_are_measured(server: str) -> None:
    result = asr_stream("--realtime", "--server", server, "--wait", "60", str(SAMPLE))

    assert (result.returncode, result.stdout.decode()) == (0, f"{TEXT}\n")
    names = [line.split(":")[0] for line in result.stderr.decode().splitlines()]
    assert names[:3] == [
        "first text after the start of speech",
        "words committed after their end",
        "final after the end of speech",
    ]


def test_every_event_is_a_line_of_json(server: str) -> None:
    result = asr_stream("--json", "--language", "de", "--server", server, "--wait", "60", str(SAMPLE))

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0
    assert [event["seq"] for event in events] == [str(seq) for seq in range(len(events))]
    assert "started" in events[0]
    assert "end" in events[-1]
    [final] = [event["final"] for event in events if "final" in event]
    assert (final["segment"]["text"], final["segment"]["language"]["code"]) == (TEXT, "de")


def test_raw_samples_come_from_standard_input(server: str) -> None:
    result = asr_stream("-", "--rate", "16000", "--server", server, "--wait", "60", audio=pcm())

    assert result.returncode == 0, result.stderr
    assert result.stdout.decode() == f"{TEXT}\n"


def test_ctrl_c_ends_what_has_no_end_and_what_was_said_comes_out(server: str) -> None:
    command = [*ASR, "stream", "-", "--json", "--server", server, "--wait", "60"]
    with subprocess.Popen(
        command, cwd=ROOT, env=fake_environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pcm())
        process.stdin.flush()
        for line in process.stdout:
            if "speech" in json.loads(line):
                break
        process.send_signal(signal.SIGINT)
        kinds = [kind for line in process.stdout for kind in ("final", "end") if kind in json.loads(line)]

        assert process.wait(60) == 0
    assert kinds == ["final", "end"]


def test_on_a_terminal_what_is_being_said_is_seen(server: str) -> None:
    terminal, other_end = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while data := os.read(terminal, 4096):
                shown.extend(data)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    command = [*ASR, "stream", "--server", server, "--wait", "60", str(SAMPLE)]
    result = subprocess.run(
        command, cwd=ROOT, env=fake_environ(COLUMNS="100"), stdout=other_end, stderr=subprocess.PIPE, timeout=120, check=False
    )
    os.close(other_end)
    reader.join(10)
    os.close(terminal)

    assert result.returncode == 0
    assert b"\r\x1b[K\x1b[2mone two" in shown
    assert shown.decode().endswith(f"\r\x1b[K{TEXT}\r\n")


@pytest.mark.parametrize("more", [(), ("--realtime",)])
def test_what_is_no_audio_is_one_line(server: str, more: tuple[str, ...]) -> None:
    text = SAMPLE.with_suffix(".txt")
    result = asr_stream(*more, "--server", server, "--wait", "60", str(text))

    assert (result.returncode, result.stdout) == (1, b"")
    [line] = result.stderr.decode().splitlines()
    assert line.startswith(f"{text}: not audio: ")


def test_nobody_at_the_address_is_exit_code_3() -> None:
    result = asr_stream("--server", "127.0.0.1:1", "--wait", "0.5", str(SAMPLE))

    assert result.returncode == 3
    assert len(result.stderr.decode().splitlines()) == 1


def _captions(output: str) -> tuple[list[str], str, str]:
    """Partials, the final and the length."""
    *partials, final, length = output.splitlines()
    return partials, final, length


def test_the_python_example_runs_as_it_is(server: str) -> None:
    asr_stream("--server", server, "--wait", "60", str(SAMPLE))  # by then it is ready
    result = run([sys.executable, str(EXAMPLES / "stream.py"), str(SAMPLE), server], fake_environ())

    partials, final, length = _captions(result.stdout)
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("... ") for line in partials)
    assert (final, length) == (f"0.0 to 5.8 s: {TEXT}", "5.8 s of audio")
    assert len((EXAMPLES / "stream.py").read_text().splitlines()) <= 60


def test_the_node_example_runs_as_it_is(server: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (EXAMPLES / "node_modules/@grpc/grpc-js").is_dir():
        pytest.skip(f"the example's packages are not installed (cd {EXAMPLES.relative_to(ROOT)} && npm install)")
    asr_stream("--server", server, "--wait", "60", str(SAMPLE))  # by then it is ready
    result = run([node, str(EXAMPLES / "stream.mjs"), str(SAMPLE), server], fake_environ())

    partials, final, length = _captions(result.stdout)
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("... ") for line in partials)
    assert (final, length) == (f"0.0 to 5.8 s: {TEXT}", "5.8 s of audio")


def test_a_microphone_is_listened_to_until_ctrl_c(server: str, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.write_bytes(pcm())
    recorder = tmp_path / "arecord"
    recorder.write_text(f"#!/bin/sh\ncat {samples}\nexec sleep 60\n")
    recorder.chmod(0o755)
    (tmp_path / "sounddevice.py").write_text("raise OSError('no PortAudio here')\n")
    env = fake_environ(PATH=f"{tmp_path}:{os.environ['PATH']}", PYTHONPATH=str(tmp_path))
    command = [*ASR, "stream", "--mic", "--json", "--server", server, "--wait", "60"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "speech" in json.loads(line):
                break
        process.send_signal(signal.SIGINT)
        kinds = [kind for line in process.stdout for kind in ("final", "end") if kind in json.loads(line)]

        assert process.wait(60) == 0
    assert kinds == ["final", "end"]
