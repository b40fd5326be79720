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
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue(AHEAD)
    loop = asyncio.get_running_loop()

    def hand_over(item: bytes | OSError) -> bool:
        """Waits while the reader is behind; False when there is no reader any more."""
        put = chunks.put(item)
        try:
            asyncio.run_coroutine_threadsafe(put, loop).result()
        except RuntimeError:  # the loop is closed
            put.close()
            return False
        return True

    def read() -> None:
        item: bytes | OSError = b"-"
        while item and not isinstance(item, OSError):
            try:
                item = os.read(descriptor, CHUNK_BYTES)
            except OSError as error:
                item = error
            if not hand_over(item):
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while item := await chunks.get():
        if isinstance(item, OSError):
            raise item
        yield item
