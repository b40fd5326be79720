"""`asr up` as a real process on free ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from time import monotonic

from asr_service.cli.children import Ports, free_port

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests/data/sample.flac"
EXPECTED = SAMPLE.with_suffix(".txt").read_text().strip()
READY_S = 90.0


@dataclass
class Up:
    """A running `asr up`; what it prints is collected line by line."""

    process: subprocess.Popen[str]
    ports: Ports
    lines: list[str] = field(default_factory=list)
    _arriving: Queue[str] = field(default_factory=Queue)

    @property
    def printed(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str, within_s: float = READY_S) -> None:
        """Returns when the output contains the text."""
        deadline_s = monotonic() + within_s
        while text not in self.printed:
            try:
                self.lines.append(self._arriving.get(timeout=max(0.0, deadline_s - monotonic())))
            except Empty:
                raise AssertionError(f"no {text!r} within {within_s} s; printed so far:\n{self.printed}") from None

    def stop(self, number: signal.Signals = signal.SIGINT, within_s: float = 60.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def collect(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arriving.put(line)


def environ(ports: Ports, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("API_KEYS", "HOST", "PORT", "ASR_SERVER")}
    chosen = {"GRPC_PORT": str(ports.grpc), "HTTP_PORT": str(ports.http), "METRICS_PORT": str(ports.metrics)}
    return inherited | chosen | {"ENGINE": "pocketsphinx", "PYTHONUNBUFFERED": "1"} | more


@contextmanager
def up(**more: str) -> Iterator[Up]:
    """Starts it; it is not ready yet. On leaving it is stopped if it still runs, and killed if it does not stop."""
    ports = Ports(free_port(), free_port(), free_port())
    with subprocess.Popen(
        [sys.executable, "-m", "asr_service", "up"],
        cwd=ROOT,
        env=environ(ports, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        running = Up(process, ports)
        reader = threading.Thread(target=running.collect)
        reader.start()
        try:
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
            reader.join(10)


def run(arguments: list[str], env: Mapping[str, str], timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
