"""How far the audio of a session has come, and who asked to be told."""

from __future__ import annotations

from asr_service.audio.vad import FRAME_SAMPLES
from asr_service.request import SAMPLE_RATE, Cursors, samples_to_ms
from asr_service.session.events import Decided, MarkerReached


class Progress:
    """Positions are samples from the first one fed; `first_sample` of the session's audio clock."""

    def __init__(self, first_sample: int) -> None:
        first_ms = samples_to_ms(first_sample)
        self.cursors = Cursors(first_ms, first_ms, first_ms)
        self._first_sample = first_sample
        self._durable = 0  # that Decided was told of
        self._markers: list[tuple[str, int]] = []

    def ms(self, sample: int) -> int:
        """On the audio clock."""
        return samples_to_ms(self._first_sample + sample)

    def mark(self, id_: str, at: int) -> None:
        """To be told when everything before is settled. Speech less than a frame before it counts as behind it."""
        self._markers.append((id_, at // FRAME_SAMPLES * FRAME_SAMPLES))

    def move(self, *, received: int, looked_at: int, settled: int) -> None:
        """Cursors only grow, and never overtake each other."""
        was = self.cursors
        received_ms = self.ms(received)
        decoded_ms = max(was.decoded_ms, min(received_ms, self.ms(looked_at)))
        self.cursors = Cursors(received_ms, decoded_ms, max(was.committed_ms, min(decoded_ms, self.ms(settled))))

    def reached(self, settled: int) -> list[MarkerReached]:
        """The markers that are behind us now, in the order they were set."""
        n_reached = 0
        while n_reached < len(self._markers) and self._markers[n_reached][1] <= settled:
            n_reached += 1
        reached, self._markers = self._markers[:n_reached], self._markers[n_reached:]
        return [MarkerReached(id_) for id_, _ in reached]

    def durable(self, sample: int, *, is_final: bool) -> list[Decided]:
        """Nothing before the sample is needed again; told of with each final, and at least each second."""
        if sample <= self._durable or not (is_final or sample - self._durable >= SAMPLE_RATE):
            return []
        self._durable = sample
        return [Decided(self._first_sample + sample)]
