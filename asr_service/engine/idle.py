"""When an engine has been quiet for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class IdleTimer:
    """Calls `on_idle` once, `timeout_s` after the moment the engine became quiet with nobody attending, and if it stayed so.
    0 means never."""

    def __init__(self, timeout_s: float, on_idle: Callable[[], None]) -> None:
        self.timeout_s = timeout_s
        self._on_idle = on_idle
        self._is_quiet = False
        self._n_attending = 0
        self._timer: asyncio.TimerHandle | None = None

    def set_quiet(self, is_quiet: bool) -> None:
        """Says how it is now; saying the same again changes nothing."""
        self._is_quiet = is_quiet
        self._settle()

    @contextmanager
    def attend(self) -> Iterator[None]:
        """While inside, the engine is needed at any moment, however quiet it is."""
        self._n_attending += 1
        self._settle()
        try:
            yield
        finally:
            self._n_attending -= 1
            self._settle()

    def stop(self) -> None:
        """Forgets that it is quiet."""
        self._is_quiet = False
        self._settle()

    def _settle(self) -> None:
        is_idle = self._is_quiet and not self._n_attending
        if is_idle and self._timer is None and self.timeout_s > 0:
            self._timer = asyncio.get_running_loop().call_later(self.timeout_s, self._fire)
        elif not is_idle and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._is_quiet = False  # until somebody says so again
        self._on_idle()
