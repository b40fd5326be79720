"""How long a lost connection is tried for, and how often."""

from __future__ import annotations

from collections.abc import Callable
from random import random

_FIRST_S = 0.1
_MOST_S = 2.0


class Patience:
    """`window_s` from the moment a connection that stood is lost. Pauses grow, and are spread so that not all clients come back
    at once. Time is an argument, of one monotonic clock."""

    def __init__(self, window_s: float, spread: Callable[[], float] = random) -> None:
        self._window_s = window_s
        self._spread = spread
        self._until_s: float | None = None  # while there is no connection
        self._n_tries = 0

    def pause_s(self, now_s: float, least_s: float = 0.0) -> float | None:
        """A connection was lost, or a try failed: how long to wait before the next one. None: it is too late for that."""
        if self._until_s is None:
            self._until_s = now_s + self._window_s
        pause_s = max(least_s, self._spread() * min(_MOST_S, _FIRST_S * 2**self._n_tries))
        self._n_tries += 1
        return pause_s if now_s + pause_s < self._until_s else None

    def left_s(self, now_s: float) -> float | None:
        """For a try; None where nothing was lost."""
        return None if self._until_s is None else max(0.0, self._until_s - now_s)

    def stood(self) -> None:
        """There is a connection."""
        self._until_s = None
        self._n_tries = 0
