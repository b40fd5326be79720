"""When an engine has been quiet for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Calls `on_idle` once, `timeout_s` after the moment the engine became quiet and if it stayed so. 0 means never."""

    def __init__(self, timeout_s: float, on_idle: Callable[[], None]) -> None:
        self.timeout_s = timeout_s
        self._on_idle = on_idle
        self._timer: asyncio.TimerHandle | None = None

    def set_quiet(self, is_quiet: bool) -> None:
        """Says how it is now; saying the same again changes nothing."""
        if not is_quiet:
            self.stop()
        elif self._timer is None and self.timeout_s > 0:
            self._timer = asyncio.get_running_loop().call_later(self.timeout_s, self._fire)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._on_idle()
