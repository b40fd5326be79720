"""How late the event loop is: the first sign of blocking work on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from asr_service.metrics import Metrics

INTERVAL_S = 0.5


@asynccontextmanager
async def watch_loop_lag(metrics: Metrics) -> AsyncIterator[None]:
    """While inside, measures every half second how much later than asked a timer fires."""
    loop = asyncio.get_running_loop()
    handle: asyncio.TimerHandle

    def probe(due_s: float) -> None:
        nonlocal handle
        metrics.event_loop_lag_seconds.set(max(0.0, monotonic() - due_s))
        handle = loop.call_later(INTERVAL_S, probe, monotonic() + INTERVAL_S)

    handle = loop.call_later(INTERVAL_S, probe, monotonic() + INTERVAL_S)
    try:
        yield
    finally:
        handle.cancel()
