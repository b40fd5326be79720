"""A running stack from the outside: where its parts are, what they say about themselves, and how to hurt them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import aiohttp
import grpc

from asr_service.pb.asr.v1 import asr_pb2_grpc
from envoy.front import Address, Front
from envoy.process import EnvoyAdmin
from envoy.stack import STATE, free_addresses
from tests.stack.processes import ROOT

TEXT = "one two three four five six seven eight nine zero one two three four"
"""What the fake recogniser makes of the sample."""

WITHIN_S = 60.0
PING_S = 2


@dataclass(frozen=True)
class FrontStack:
    """`state` is read anew each time: programs end and others take their places."""

    folder: Path

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / STATE).read_text())
        return found

    @property
    def public(self) -> str:
        return str(self.state["public"])

    @property
    def url(self) -> str:
        return f"http://{self.public}"

    @property
    def internal(self) -> str:
        return str(self.state["internal"])

    @property
    def admin(self) -> EnvoyAdmin:
        """Of the Envoy of this moment."""
        return EnvoyAdmin(Address.parse(self.state["admin"]))

    def addresses(self, kind: str) -> tuple[Address, ...]:
        return tuple(Address.parse(part["address"]) for part in self.state[kind])

    def front(self, **more: Any) -> Front:
        """Another front before the same services and bridges, on free ports."""
        ports = dict(zip(("public", "internal", "admin"), free_addresses(3), strict=True))
        chosen: dict[str, Any] = ports | {"access_log": "/dev/null", "ping_s": PING_S} | more
        return Front(self.addresses("services"), self.addresses("bridges"), **chosen)

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        """Waits for something that cannot be awaited."""
        deadline_s = monotonic() + within_s
        while not await asyncio.to_thread(holds):
            assert monotonic() < deadline_s, f"not within {within_s} s: {what}"
            await asyncio.sleep(0.02)

    async def until_healthy(self, n_services: int) -> None:
        """Waits until so many services are asked."""
        deadline_s = monotonic() + WITHIN_S
        while len(found := await self.admin.healthy("services")) != n_services:
            assert monotonic() < deadline_s, f"{found} are asked, expected {n_services}"
            await asyncio.sleep(0.02)

    async def kill(self, index: int, number: signal.Signals) -> None:
        """Sends a signal to a service; returns when its process is another one that is asked again."""
        old = self.state["services"][index]
        os.kill(old["pid"], number)

        def is_back() -> bool:
            new = self.state["services"][index]
            return bool(new["starts"] > old["starts"] and new["pid"])

        await self.until(is_back, f"service {index} is started again")
        await self.until_healthy(len(self.state["services"]))

    async def replace_envoy(self) -> None:
        """A new Envoy takes over; returns when the old one is gone."""
        state = self.state
        os.kill(state["pid"], signal.SIGHUP)
        await self.until(lambda: self.state["envoy"] not in (state["envoy"], 0), "a new Envoy")
        await self.until(lambda: not Path(f"/proc/{state['envoy']}").exists(), "the end of the old Envoy")

    async def gauge(self, name: str, service: dict[str, Any]) -> float:
        """The sum over its labels; `name` is a pattern."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{service['metrics']}/metrics") as answer:
            return sum(map(float, re.findall(rf"^{name} (\S+)$", await answer.text(), flags=re.M)))

    async def in_flight(self) -> list[float]:
        """Calls inside each service."""
        return [await self.gauge(r"asr_requests_in_flight\{.*\}", service) for service in self.state["services"]]

    async def until_somebody_speaks(self, index: int) -> None:
        """Waits until a service has a live session whose client is there."""
        deadline_s = monotonic() + WITHIN_S
        while not await self.gauge(r'asr_live_sessions\{state="attached"\}', self.state["services"][index]):
            assert monotonic() < deadline_s, f"no live session is at service {index}"
            await asyncio.sleep(0.02)

    async def until_idle(self) -> None:
        deadline_s = monotonic() + WITHIN_S
        while any(found := await self.in_flight()):
            assert monotonic() < deadline_s, f"calls inside the services: {found}"
            await asyncio.sleep(0.05)

    async def log_lines(self, marker: str, n: int) -> list[dict[str, Any]]:
        """The lines of the access log that have this text, when there are so many."""
        path = Path(self.state["access_log"])

        def found() -> list[str]:
            return [line for line in path.read_text().splitlines() if marker in line]

        await self.until(lambda: len(found()) >= n, f"{n} lines of the access log with {marker}")
        return [json.loads(line) for line in found()]


@contextmanager
def running_stack(folder: Path) -> Iterator[FrontStack]:
    if given := os.environ.get("ASR_STACK"):
        yield FrontStack(Path(given).resolve())
        return
    command = [sys.executable, "-m", "envoy.stack", "--folder", str(folder), "--public", str(free_addresses(1)[0])]
    command += ["--drain", "3", "--ping", str(PING_S)]
    inherited = {name: value for name, value in os.environ.items() if name not in ("API_KEYS", "HOST", "PORT", "ASR_SERVER")}
    output = folder / "stack.out"
    with (
        output.open("w") as out,
        subprocess.Popen(command, cwd=ROOT, env=inherited | {"ENGINE": "fake"}, stdout=out, stderr=out) as process,
    ):
        try:
            deadline_s = monotonic() + 90
            while "Ready after" not in output.read_text():
                assert process.poll() is None, output.read_text()
                assert monotonic() < deadline_s, output.read_text()
                sleep(0.05)
            yield FrontStack(folder)
        finally:
            process.terminate()
            process.wait(60)


def channel(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """A connection of its own."""
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


def stub_of(made: grpc.aio.Channel) -> Any:
    return asr_pb2_grpc.AsrServiceStub(made)
