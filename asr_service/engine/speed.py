"""How fast the recogniser is, learnt from what it did."""

from __future__ import annotations

_WEIGHT_OF_NEWEST = 0.2
_LEAST_AUDIO_S = 0.1  # shorter stretches say more about the overhead than about the speed


class Speed:
    """A moving average of run seconds per second of audio."""

    def __init__(self, initial_s_per_audio_s: float = 0.3) -> None:
        self.s_per_audio_s = initial_s_per_audio_s
        self._has_learnt = False

    def learn(self, audio_s: float, run_s: float) -> None:
        measured = run_s / max(audio_s, _LEAST_AUDIO_S)
        weight = _WEIGHT_OF_NEWEST if self._has_learnt else 1.0
        self.s_per_audio_s += weight * (measured - self.s_per_audio_s)
        self._has_learnt = True

    def run_s(self, audio_s: float) -> float:
        """How long this much audio would probably take."""
        return audio_s * self.s_per_audio_s
