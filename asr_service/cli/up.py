"""`asr up`: the service and the bridge in the foreground, until Ctrl-C or one of them ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TypeVar

from asr_service.cli import exit_codes
from asr_service.cli.calls import calls, find_sample, tools_folder
from asr_service.cli.children import ChildDied, NotReady, Ports, Stack, first_of, free_port, is_free, running_stack
from asr_service.config import Settings
from asr_service.environment import BadSettings

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}  # noqa: S104 - an address to listen on, and one that reaches it
HTTP_PORT = 8000
T = TypeVar("T")


async def run_up() -> int:
    """Returns the exit code. Raises BadSettings."""
    settings = Settings.load()
    ports = _ports(settings)
    if busy := _busy(settings, ports):
        sys.stderr.write(busy)
        return exit_codes.FAILED
    host = ANYWHERE.get(settings.host, settings.host)
    environ = {"LOG_FORMAT": "text", **os.environ}
    with stop_signals() as (stopped, hurried):
        async with running_stack(ports, environ, host, drain_s=settings.drain_timeout, hurried=hurried) as stack:
            return await _until_stopped(stack, host, stopped, with_key=bool(settings.api_keys))


async def _until_stopped(stack: Stack, host: str, stopped: asyncio.Event, *, with_key: bool) -> int:
    started_s = monotonic()
    try:
        is_ready = await first_of(_after(stopped, False), _is_ready(stack, host))
    except (ChildDied, NotReady) as error:
        sys.stderr.write(f"asr up: {error}\n")
        return exit_codes.FAILED
    if is_ready:
        _print_calls(stack.ports, host, monotonic() - started_s, with_key=with_key)
        if died := await first_of(_after(stopped, ""), stack.exited()):
            sys.stderr.write(f"asr up: {died}; stopping\n")
            return exit_codes.FAILED
    sys.stdout.write("\nStopping: running requests are finished first; again to stop at once.\n")
    sys.stdout.flush()
    return exit_codes.OK


@contextmanager
def stop_signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Two events: the first SIGINT or SIGTERM sets the first, the next one the second."""
    first, second = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield first, second
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _ports(settings: Settings) -> Ports:
    given = os.environ.get("HTTP_PORT") or os.environ.get("PORT") or str(HTTP_PORT)
    if not given.isdigit() or int(given) > 65535:
        raise BadSettings(f"HTTP_PORT={given!r}: expected a port, 0 to 65535")
    host = settings.host
    grpc, http, metrics = (port or free_port(host) for port in (settings.grpc_port, int(given), settings.metrics_port))
    return Ports(grpc, http, metrics)


def _busy(settings: Settings, ports: Ports) -> str:
    wanted = [("GRPC_PORT", ports.grpc), ("HTTP_PORT", ports.http)]
    if settings.metrics_enabled:
        wanted.append(("METRICS_PORT", ports.metrics))
    return "".join(
        f"asr up: port {port} of {settings.host} is taken; stop what uses it or set {name}\n"
        for name, port in wanted
        if not is_free(settings.host, port)
    )


def _print_calls(ports: Ports, host: str, after_s: float, *, with_key: bool) -> None:
    found = find_sample()
    lines = [
        f"Ready after {after_s:.1f} s. gRPC {host}:{ports.grpc}, HTTP http://{host}:{ports.http}. Ctrl-C stops. Try:",
        *(
            f"\n# {call.title}\n{call.command}"
            for call in calls(host, ports, found or Path("clip.flac"), tools_folder(), with_key=with_key)
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


async def _is_ready(stack: Stack, host: str) -> bool:
    await stack.wait_ready(host)
    return True


async def _after(event: asyncio.Event, result: T) -> T:
    await event.wait()
    return result
