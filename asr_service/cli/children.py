"""The service and the bridge as supervised subprocesses.

They run in process groups of their own, so that Ctrl-C reaches them once and in order: the bridge first (its requests need the
service), then the service. Each gets its drain time and is killed after it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from asr_service.client import AsrClient, AsrClientError

T = TypeVar("T")

SERVICE = "the service"
BRIDGE = "the bridge"
START_S = 120.0
KILL_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the parts listen."""

    grpc: int
    http: int
    metrics: int


class ChildDied(Exception):
    """A part of the system ended by itself."""


class NotReady(Exception):
    """A part of the system runs and does not get ready."""


class Child:
    """One subprocess."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    @classmethod
    async def start(
        cls, name: str, arguments: tuple[str, ...], environ: Mapping[str, str], *, pass_fds: tuple[int, ...] = ()
    ) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=environ, process_group=0, pass_fds=pass_fds
        )
        return cls(name, process)

    async def exited(self) -> str:
        """Returns when it has ended, with a line that says how."""
        code = await self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}"

    async def stop(self, within_s: float, hurried: asyncio.Event) -> None:
        """SIGTERM; then SIGKILL when it takes too long or somebody is in a hurry."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await first_of(self.process.wait(), _none_after(hurried))
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Stack:
    """The running parts."""

    def __init__(self, ports: Ports, children: list[Child]) -> None:
        self.ports = ports
        self.children = children

    async def exited(self) -> str:
        """Returns when the first part has ended."""
        return await first_of(*(child.exited() for child in self.children))

    async def wait_ready(self, host: str) -> None:
        """Raises ChildDied or NotReady."""
        died = await first_of(self.exited(), _ready(host, self.ports))
        if died is not None:
            raise ChildDied(died)


@asynccontextmanager
async def running_stack(
    ports: Ports, environ: Mapping[str, str], host: str, *, drain_s: float, hurried: asyncio.Event
) -> AsyncIterator[Stack]:
    """Starts both; on leaving drains and stops both, at once when `hurried` is set. They are not ready yet: wait_ready."""
    environ = {**environ, "GRPC_PORT": str(ports.grpc), "HTTP_PORT": str(ports.http), "METRICS_PORT": str(ports.metrics)}
    environ |= {"ASR_TARGET": f"{host}:{ports.grpc}"}
    environ.pop("PORT", None)  # another name of HTTP_PORT
    stack = Stack(ports, [])
    try:
        stack.children.append(await Child.start(SERVICE, ("-m", "asr_service", "serve"), environ))
        stack.children.append(await Child.start(BRIDGE, ("-m", "rest_bridge"), environ))
        yield stack
    finally:
        for child in reversed(stack.children):
            await child.stop(drain_s + KILL_MARGIN_S, hurried)


async def first_of(*work: Coroutine[Any, Any, T]) -> T:
    """The result of what ends first; the others are cancelled."""
    tasks = [asyncio.create_task(w) for w in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _none_after(event: asyncio.Event) -> None:
    await event.wait()


async def _ready(host: str, ports: Ports) -> None:
    try:
        async with asyncio.timeout(START_S):
            async with AsrClient(f"{host}:{ports.grpc}") as client:
                await client.wait_ready(START_S)
            while not await asyncio.to_thread(_bridge_is_ready, f"http://{host}:{ports.http}/ready"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # HTTP has nothing to wait on
    except AsrClientError as error:
        raise NotReady(f"{SERVICE} is not ready: {error.message}") from None
    except TimeoutError:
        raise NotReady(f"{BRIDGE} was not ready within {START_S:g} s") from None


def _bridge_is_ready(url: str) -> bool:
    from urllib.error import URLError
    from urllib.request import ProxyHandler, build_opener

    direct = build_opener(ProxyHandler({}))  # never through a proxy: it is on this machine
    try:
        with direct.open(url, timeout=5.0) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def free_port(host: str = "127.0.0.1") -> int:
    with _listening(host, 0) as probe:
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    try:
        _listening(host, port).close()
    except OSError:
        return False
    return True


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = socket.socket(family)
    try:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host.strip("[]"), port))
        probe.listen(1)
    except OSError:
        probe.close()
        raise
    return probe
