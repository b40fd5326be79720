"""Supervision, with programs of a line each in place of the service and the bridge."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from asr_service.cli.children import Child, Ports, Stack, first_of, free_port, is_free

READY_THEN = "import signal, sys, time; {handler}; print('up', flush=True); time.sleep(60)"
POLITE = READY_THEN.format(handler="signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))")
STUBBORN = READY_THEN.format(handler="signal.signal(signal.SIGTERM, signal.SIG_IGN)")


async def started(program: str) -> Child:
    """A child that has set up its signal handling, told by its first line in a pipe."""
    reader, writer = os.pipe()
    try:
        child = await Child.start(
            "child", ("-c", f"import os; os.dup2({writer}, 1); {program}"), os.environ, pass_fds=(writer,)
        )
    finally:
        os.close(writer)
    with os.fdopen(reader) as output:
        assert await asyncio.to_thread(output.readline) == "up\n"
    return child


async def test_a_child_that_drains_is_not_killed() -> None:
    child = await started(POLITE)

    await child.stop(30.0, asyncio.Event())

    assert child.process.returncode == 0


async def test_a_child_that_ignores_the_signal_is_killed_in_time() -> None:
    child = await started(STUBBORN)

    await child.stop(0.05, asyncio.Event())

    assert child.process.returncode == -signal.SIGKILL


async def test_a_hurry_kills_at_once() -> None:
    child, hurried = await started(STUBBORN), asyncio.Event()
    hurried.set()

    await child.stop(60.0, hurried)

    assert child.process.returncode == -signal.SIGKILL


async def test_the_first_child_that_ends_is_named_with_how() -> None:
    staying, dying = await started(POLITE), await Child.start("the bridge", ("-c", "raise SystemExit(7)"), os.environ)
    stack = Stack(Ports(1, 2, 3), [staying, dying])

    assert await stack.exited() == "the bridge ended with exit code 7"
    await staying.stop(30.0, asyncio.Event())


async def test_a_killed_child_is_said_to_be_killed() -> None:
    child = await started(POLITE)
    child.process.kill()

    assert await child.exited() == "child was killed by SIGKILL"


async def test_the_loser_of_a_race_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def slow() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "slow"

    async def fast() -> str:
        await asyncio.sleep(0)
        return "fast"

    assert await first_of(slow(), fast()) == "fast"
    assert cancelled.is_set()


def test_a_taken_port_is_not_free() -> None:
    import socket

    port = free_port()
    assert is_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free("127.0.0.1", port)


@pytest.mark.parametrize("host", ["not a host", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_not_free(host: str) -> None:
    assert not is_free(host, 0)
