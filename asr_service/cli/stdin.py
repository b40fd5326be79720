"""Standard input as pieces of bytes.

It is read by a daemon thread of its own, straight from the descriptor: a read that waits for a terminal or a pipe cannot be
interrupted, and neither Ctrl-C nor a refused upload may wait for it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator

CHUNK_BYTES = 64 * 1024
AHEAD = 4


async def descriptor_chunks(descriptor: int) -> AsyncGenerator[bytes]:
    """Raises OSError when it cannot be read."""
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    room = threading.Semaphore(AHEAD)  # pieces that may be read before the consumer takes one
    is_closed = threading.Event()

    def read() -> None:
        item: bytes | OSError = b"-"
        while item and not isinstance(item, OSError):
            room.acquire()
            if is_closed.is_set():
                return
            try:
                item = os.read(descriptor, CHUNK_BYTES)
            except OSError as error:
                item = error
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, item)
            except RuntimeError:  # the loop was closed during the read
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    try:
        while item := await chunks.get():
            if isinstance(item, OSError):
                raise item
            room.release()
            yield item
    finally:
        is_closed.set()
        room.release()
