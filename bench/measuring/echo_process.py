"""A bare grpc.aio server that sends back every message as it came: what a packet costs at the least."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import grpc
import psutil

from measuring.service_process import HOST, Service, on_cores

METHOD = "/bench.Echo/Echo"


@contextmanager
def echo_process(cores: set[int]) -> Iterator[Service]:
    """Started and listening. It has no metrics."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    with on_cores(cores):
        process.start()
    there.close()
    try:
        port = here.recv()
        yield Service(f"{HOST}:{port}", psutil.Process(process.pid), 0)
    finally:
        process.terminate()
        process.join(10)


def _serve(connection: Connection) -> None:
    asyncio.run(_serve_forever(connection))


async def _serve_forever(connection: Connection) -> None:
    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(_echo)
    service, method = METHOD.lstrip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    connection.send(server.add_insecure_port(f"{HOST}:0"))
    await server.start()
    await server.wait_for_termination()


async def _echo(messages: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message
