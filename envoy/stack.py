"""Several services, several bridges and Envoy before them, on this machine: `python -m envoy.stack`.

What ends by itself is started again. Signals: SIGHUP puts a new Envoy in the place of the old one, SIGINT and SIGTERM stop all.
A file says where everything is, for whoever wants to try things out: addresses and process ids, written anew on each change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from asr_service.client import AsrClient, AsrClientError
from envoy.clusters import BRIDGES
from envoy.front import Address, Front
from envoy.process import READY_S, EnvoyProgram, NotReady, Program, wait_http

FOLDER = Path("build/stack")
STATE = "stack.json"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the stack consists of. `drain_s`: what calls get to end in when their replica or their Envoy is asked to go."""

    folder: Path
    front: Front
    metrics: tuple[Address, ...]
    restart_after_s: float = 1.0
    drain_s: float = 10.0
    concurrency: int = 1

    @classmethod
    def of(cls, folder: Path, n_services: int, n_bridges: int, **front: Any) -> Plan:
        """On free ports, except where `front` says otherwise."""
        found = free_addresses(2 * n_services + n_bridges + 3)
        services, metrics = found[:n_services], found[n_services : 2 * n_services]
        bridges, (public, internal, admin) = found[2 * n_services : -3], found[-3:]
        ports: dict[str, Any] = {"public": public, "internal": internal, "admin": admin}
        chosen = ports | {"access_log": str(folder / "access.jsonl")} | front
        return cls(folder, Front(services, bridges, **chosen), metrics)


def free_addresses(n: int) -> tuple[Address, ...]:
    """So many different ones, free at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(n)]
        return tuple(Address(HOST, probe.getsockname()[1]) for probe in probes)


@dataclass
class Part:
    """A program that is started again when it ends. `wait` returns when it is ready."""

    name: str
    address: Address
    command: tuple[str, ...]
    environ: dict[str, str]
    wait: Callable[[Program], Coroutine[Any, Any, None]]
    program: Program | None = None
    n_starts: int = 0


@dataclass
class Stack:
    """`async with` it: all is ready inside, and stopped after it."""

    plan: Plan
    parts: list[Part] = field(default_factory=list)
    envoy: EnvoyProgram | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _n_envoys: int = 0
    _replacing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __aenter__(self) -> Stack:
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        front = self.plan.front
        services = [_service(i, address, self.plan) for i, address in enumerate(front.services)]
        bridges = [_bridge(i, address, self.plan) for i, address in enumerate(front.bridges)]
        self.parts = services + bridges
        try:
            # In the order in which they need each other: what finds nobody there waits longer and longer before it looks again.
            await self._start_all(services)
            self.envoy = await self._new_envoy(front)
            await self._start_all(bridges)
            await self.envoy.admin.wait_healthy(BRIDGES, {str(address) for address in front.bridges})
            self._write_state()
        except BaseException:
            await self._stop()
            raise
        self._tasks = [asyncio.create_task(self._keep(part)) for part in self.parts]
        self._tasks.append(asyncio.create_task(self._keep_envoy()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def replace_envoy(self) -> None:
        """A new one on the same ports, then the old one goes. Calls do not notice; streams get the plan's time to end."""
        async with self._replacing:
            old = self.envoy
            self.envoy = await self._new_envoy(replace(self.plan.front, admin=free_addresses(1)[0]))
            self._write_state()
            if old is not None:
                await old.retire(self.plan.drain_s)

    async def _new_envoy(self, front: Front) -> EnvoyProgram:
        self._n_envoys += 1
        return await EnvoyProgram.start(front, self.plan.folder, f"envoy-{self._n_envoys}", self.plan.concurrency)

    async def _start_all(self, parts: list[Part]) -> None:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(self._start(part))

    async def _start(self, part: Part) -> None:
        part.program = await Program.start(part.name, part.command, part.environ, self.plan.folder / f"{part.name}.log")
        part.n_starts += 1
        await part.wait(part.program)

    async def _keep(self, part: Part) -> None:
        while True:
            assert part.program is not None  # noqa: S101  for the type checker
            code = await part.program.process.wait()
            _say(f"{part.name} ended ({code})")
            self._write_state()
            await asyncio.sleep(self.plan.restart_after_s)
            with suppress(NotReady):
                await self._start(part)
                _say(f"{part.name} is ready again")
            self._write_state()

    async def _keep_envoy(self) -> None:
        while True:
            watched = self.envoy
            assert watched is not None  # noqa: S101  for the type checker
            await watched.program.process.wait()
            if watched is self.envoy:
                _say("envoy ended")
                async with self._replacing:
                    self.envoy = await self._new_envoy(replace(self.plan.front, admin=free_addresses(1)[0]))
                self._write_state()

    async def _stop(self) -> None:
        """Who asks before who answers: Envoy, the bridges, the services."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.envoy is not None:
            await self.envoy.program.stop(5.0)
        for prefix in ("bridge", "service"):
            running = [part.program for part in self.parts if part.name.startswith(prefix) and part.program is not None]
            await asyncio.gather(*(program.stop(self.plan.drain_s + 5.0) for program in running))

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "public": str(self.plan.front.public),
            "internal": str(self.plan.front.internal),
            "admin": str(self.envoy.admin.address) if self.envoy else "",
            "envoy": self.envoy.program.pid if self.envoy else 0,
            "access_log": self.plan.front.access_log,
            "services": [_of(part) for part in self.parts if part.name.startswith("service")],
            "bridges": [_of(part) for part in self.parts if part.name.startswith("bridge")],
        }
        for i, service in enumerate(state["services"]):  # type: ignore[arg-type,var-annotated]
            service["metrics"] = str(self.plan.metrics[i])
        target = self.plan.folder / STATE
        partly = target.with_suffix(".new")
        partly.write_text(json.dumps(state, indent=1))
        partly.replace(target)  # a reader sees the old one or the new one


def _of(part: Part) -> dict[str, Any]:
    is_running = part.program is not None and part.program.is_running
    pid = part.program.pid if part.program is not None and is_running else 0
    return {"name": part.name, "address": str(part.address), "pid": pid, "starts": part.n_starts}


def _service(index: int, address: Address, plan: Plan) -> Part:
    environ = _environ(plan) | {"GRPC_PORT": str(address.port), "METRICS_PORT": str(plan.metrics[index].port)}

    async def wait(program: Program) -> None:
        async def ready() -> None:
            async with AsrClient(str(address)) as client:
                await client.wait_ready(READY_S)

        waiting, ended = asyncio.ensure_future(ready()), asyncio.ensure_future(program.process.wait())
        try:
            await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise NotReady(f"{program.name} ended with {program.process.returncode}; its log says why")
            waiting.result()
        except AsrClientError as error:
            raise NotReady(f"{program.name}: {error.message}") from None
        finally:
            waiting.cancel()
            ended.cancel()
            await asyncio.gather(waiting, ended, return_exceptions=True)

    return Part(f"service-{index + 1}", address, (sys.executable, "-m", "asr_service", "serve"), environ, wait)


def _bridge(index: int, address: Address, plan: Plan) -> Part:
    environ = _environ(plan) | {"HTTP_PORT": str(address.port), "ASR_TARGET": str(plan.front.internal)}
    environ.pop("PORT", None)  # another name of HTTP_PORT

    async def wait(program: Program) -> None:
        await wait_http(f"http://{address}/ready", program)

    return Part(f"bridge-{index + 1}", address, (sys.executable, "-m", "rest_bridge"), environ, wait)


def _environ(plan: Plan) -> dict[str, str]:
    return {**os.environ, "HOST": HOST, "DRAIN_TIMEOUT": str(plan.drain_s)}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def run(plan: Plan) -> None:
    """Until SIGINT or SIGTERM."""
    stopped, loop, started_s = asyncio.Event(), asyncio.get_running_loop(), monotonic()
    replacing: set[asyncio.Task[None]] = set()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with Stack(plan) as stack:

        def replace_envoy() -> None:
            task = asyncio.create_task(stack.replace_envoy())
            replacing.add(task)
            task.add_done_callback(replacing.discard)

        loop.add_signal_handler(signal.SIGHUP, replace_envoy)
        front = plan.front
        _say(f"Ready after {monotonic() - started_s:.1f} s: {len(front.services)} services and {len(front.bridges)} bridges")
        _say(f"behind http://{front.public} (gRPC, gRPC-Web, JSON, REST). Logs and {STATE} are in {plan.folder}.")
        _say("envoy/verify tries it out; SIGHUP replaces Envoy; Ctrl-C stops all.")
        await stopped.wait()
        _say("Stopping.")
        for task in replacing:
            task.cancel()
        await asyncio.gather(*replacing, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m envoy.stack", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--services", type=int, default=3, help="replicas of the service (%(default)s)")
    parser.add_argument("--bridges", type=int, default=2, help="bridges (%(default)s)")
    parser.add_argument("--public", type=Address.parse, default=Address(HOST, 8080), help="port for everybody (%(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for logs and state (%(default)s)")
    parser.add_argument("--restart-after", type=float, default=1.0, help="seconds before what ended starts again")
    parser.add_argument("--drain", type=float, default=10.0, help="seconds that calls get when their server goes")
    parser.add_argument("--ping", type=int, default=30, help="seconds after which a silent client is asked for a sign")
    given = parser.parse_args()
    plan = Plan.of(given.folder, given.services, given.bridges, public=given.public, ping_s=given.ping)
    plan = replace(plan, restart_after_s=given.restart_after, drain_s=given.drain)
    try:
        asyncio.run(run(plan))
    except* NotReady as errors:
        sys.exit("\n".join(str(error) for error in errors.exceptions))


if __name__ == "__main__":
    main()
