"""Work to give to engines, and waiting for what they do with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from asr_service.request import Priority, RecognitionOptions, Samples, Speech, Work, WorkIds


class Works:
    """Makes Works that arrive now; of one second of silence unless told otherwise."""

    def __init__(self) -> None:
        self._ids = WorkIds()

    def make(
        self,
        samples: Samples | None = None,
        *,
        priority: Priority = Priority.INTERACTIVE,
        patience_s: float | None = None,
        options: RecognitionOptions | None = None,
    ) -> Work:
        now_s = time.monotonic()
        speech = Speech(np.zeros(16_000, np.float32) if samples is None else samples, start_ms=0)
        deadline_s = None if patience_s is None else now_s + patience_s
        return Work(self._ids.take(), speech, options or RecognitionOptions(), priority, now_s, deadline_s)


async def until(is_so: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Waits for something that an engine does in its own time and tells nobody about."""
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.001)
