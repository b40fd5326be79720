"""The text of a segment while it is being recognised."""

from __future__ import annotations

import asyncio
from typing import Any


class LatestText:
    """Told every text so far, gives out the newest. What nobody took in time is overwritten: it never holds more than one."""

    def __init__(self) -> None:
        self._text = ""
        self._taken = ""
        self._news = self._future()

    def put(self, text: str) -> None:
        """To be called on the event loop."""
        self._text = text
        if text != self._taken and not self._news.done():
            self._news.set_result(None)

    async def take(self, until: asyncio.Task[Any]) -> str | None:
        """The newest text, once it is another than the last one taken; None when `until` is done, however it ended."""
        while not until.done():
            await asyncio.wait({until, self._news}, return_when=asyncio.FIRST_COMPLETED)
            if self._news.done():
                self._news = self._future()
            if not until.done() and self._text != self._taken:
                self._taken = self._text
                return self._text
        return None

    @staticmethod
    def _future() -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()
