"""A TCP proxy that cuts each connection after so many bytes to the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress


class CuttingProxy:
    """`budgets`: the bytes of each connection, one after another; those after them are never cut."""

    def __init__(self, target: str, budgets: Iterable[int]) -> None:
        self.target = target  # of connections to come
        self._budgets = iter(budgets)
        self._pipes: set[asyncio.Task[None]] = set()
        self.n_cut = 0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        task.add_done_callback(self._pipes.discard)
        budget = next(self._budgets, None)
        host, _, port = self.target.rpartition(":")
        there, here = await asyncio.open_connection(host, int(port))
        back = asyncio.create_task(_pipe(there, writer, None))
        try:
            with suppress(asyncio.CancelledError):  # asyncio would complain about a server's task
                self.n_cut += await _pipe(reader, here, budget)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            for end in (writer, here):
                end.transport.abort()  # a reset, as when a cable is pulled out

    async def stop(self) -> None:
        for task in list(self._pipes):
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int | None) -> bool:
    """Returns whether the budget came to its end."""
    with suppress(ConnectionError):
        while data := await source.read(65536):
            if budget is not None:
                data, budget = data[:budget], budget - len(data)
            sink.write(data)
            await sink.drain()
            if budget is not None and budget <= 0:
                return True
    return False


@asynccontextmanager
async def cutting(target: str, budgets: Iterable[int]) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(target, budgets)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
