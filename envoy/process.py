"""Programs of a stack: started, waited for, stopped; and what only Envoy can do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp

from envoy.binary import find_envoy
from envoy.compose import compose
from envoy.front import Address, Front

READY_S = 120.0
DRAIN_TIME_S = 2  # in which Envoy asks its clients to connect anew, and still answers all
_POLL_S = 0.02


class NotReady(Exception):
    """A program ended, or did not get ready in time."""


class Program:
    """One process of its own group, with its output in a file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    @classmethod
    async def start(cls, name: str, command: Sequence[str], environ: Mapping[str, str], log: Path) -> Program:
        with log.open("ab") as output:
            made = await asyncio.create_subprocess_exec(
                *command, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
            )
        return cls(name, made)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, within_s: float) -> None:
        """SIGTERM; SIGKILL when it takes too long."""
        self.send(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.process.wait()
        self.send(signal.SIGKILL)
        await self.process.wait()


class EnvoyAdmin:
    """What an Envoy says about itself, at its admin port."""

    def __init__(self, address: Address) -> None:
        self.address = address

    async def ask(self, path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}{path}") as answer:
            return await answer.text()

    async def stat(self, name: str) -> int:
        """A counter or a gauge by its full name; 0 while there is none."""
        found = json.loads(await self.ask(f"/stats?format=json&filter=^{name}$"))["stats"]
        return next((int(one["value"]) for one in found if one.get("name") == name), 0)

    async def healthy(self, cluster: str) -> set[str]:
        """The addresses of the replicas that are asked."""
        statuses = json.loads(await self.ask("/clusters?format=json"))["cluster_statuses"]
        found = set()
        for host in (host for one in statuses if one["name"] == cluster for host in one.get("host_statuses", ())):
            address = host["address"]["socket_address"]
            state = host["health_status"]
            is_out = any(value is True for name, value in state.items() if name.startswith("failed"))
            if state.get("eds_health_status") == "HEALTHY" and not is_out:
                found.add(f"{address['address']}:{address['port_value']}")
        return found

    async def wait_healthy(self, cluster: str, addresses: set[str], within_s: float = READY_S) -> None:
        """Returns when exactly these are asked. Raises NotReady."""
        found: set[str] = set()
        try:
            async with asyncio.timeout(within_s):
                while (found := await self.healthy(cluster)) != addresses:  # noqa: ASYNC110  there is nothing to wait on
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise NotReady(f"{cluster}: {sorted(found)} within {within_s:g} s, expected {sorted(addresses)}") from None

    async def drain_listeners(self) -> None:
        """Another one listens on the same ports: from DRAIN_TIME_S on there are no new connections here."""
        async with aiohttp.ClientSession() as session:
            await session.post(f"http://{self.address}/drain_listeners?graceful&skip_exit")


class EnvoyProgram:
    """One Envoy that is ready."""

    def __init__(self, program: Program, admin: EnvoyAdmin) -> None:
        self.program = program
        self.admin = admin

    @classmethod
    async def start(cls, front: Front, folder: Path, name: str = "envoy", concurrency: int = 1) -> EnvoyProgram:
        """Its configuration and its log are files of that name in the folder. Raises NotReady, NoEnvoy."""
        config = folder / f"{name}.json"
        config.write_text(json.dumps(compose(front), indent=1))
        command = [find_envoy(), "-c", str(config), "--disable-hot-restart", "--concurrency", str(concurrency)]
        command += ["--drain-time-s", str(DRAIN_TIME_S), "--file-flush-interval-msec", "200", "--log-level", "warning"]
        program = await Program.start(name, command, os.environ, folder / f"{name}.log")
        try:
            await wait_http(f"http://{front.admin}/ready", program)
        except BaseException:
            await program.stop(1.0)
            raise
        return cls(program, EnvoyAdmin(front.admin))

    async def retire(self, limit_s: float) -> None:
        """Stops when no call is left, at the latest after so long. Its place is taken already."""
        await self.admin.drain_listeners()
        await asyncio.sleep(DRAIN_TIME_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while await self.admin.stat("http.public.downstream_rq_active"):  # noqa: ASYNC110  there is nothing to wait on
                    await asyncio.sleep(0.1)
        await self.program.stop(5.0)


async def wait_http(url: str, program: Program, within_s: float = READY_S) -> None:
    """Returns when the answer is 200. Raises NotReady."""
    try:
        async with asyncio.timeout(within_s), aiohttp.ClientSession() as session:
            while program.is_running:
                with suppress(aiohttp.ClientError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise NotReady(f"{program.name} was not ready within {within_s:g} s") from None
    raise NotReady(f"{program.name} ended with {program.process.returncode}")
