"""How often guesses are asked for: as often as wanted while the recogniser keeps up, less often when it does not."""

from __future__ import annotations

from asr_service.session.events import Throttled

_HEADROOM = 1.25  # rounds are further apart than they take
_SMOOTHING = 0.3
_MOST_MS = 5_000
_NEWS_RATIO = 1.25  # a smaller change of the interval is not told
_LAG_MS = (1_000, 2_000)  # caught up below the first, behind above the second
_NEWS_EVERY_S = 1.0


class Pace:
    """`interval_ms` is what the client wants."""

    def __init__(self, interval_ms: int) -> None:
        self.interval_ms = interval_ms
        self._round_s = 0.0
        self._told_ms = interval_ms
        self._told_s = float("-inf")
        self._is_behind = False

    @property
    def effective_ms(self) -> int:
        return max(self.interval_ms, min(_MOST_MS, round(self._round_s * 1000 * _HEADROOM)))

    def learn(self, round_s: float) -> None:
        """A wish was answered after so long."""
        self._round_s += _SMOOTHING * (round_s - self._round_s)

    def news(self, lag_ms: int, now_s: float) -> Throttled | None:
        """Whether the client should be told, at most once a second."""
        least_ms, most_ms = _LAG_MS
        is_behind = lag_ms > (least_ms if self._is_behind else most_ms)
        effective_ms = self.effective_ms
        low, high = sorted((effective_ms, self._told_ms))
        if now_s < self._told_s + _NEWS_EVERY_S or (is_behind == self._is_behind and high < low * _NEWS_RATIO):
            return None
        self._is_behind, self._told_ms, self._told_s = is_behind, effective_ms, now_s
        return Throttled(lag_ms, effective_ms)
