"""A stretch of a stream's samples, addressed by position in the stream: grows at the end, forgets at the front."""

from __future__ import annotations

import numpy as np

from asr_service.request import Samples

_FIRST_CAPACITY = 1 << 16


class SampleBuffer:
    """Holds the samples `start` to `end`. Appending costs amortised constant time per sample."""

    def __init__(self) -> None:
        self._data: Samples = np.empty(_FIRST_CAPACITY, np.float32)
        self._offset = 0  # of `start` in _data
        self._n = 0
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + self._n

    def append(self, samples: Samples) -> None:
        if self._offset + self._n + len(samples) > len(self._data):
            self._make_room(len(samples))
        at = self._offset + self._n
        self._data[at : at + len(samples)] = samples
        self._n += len(samples)

    def slice(self, start: int, end: int) -> Samples:
        """A copy of the samples start to end, as far as they are held."""
        first = self._offset + max(start, self.start) - self.start
        return self._data[first : self._offset + max(0, min(end, self.end) - self.start)].copy()

    def forget_before(self, position: int) -> None:
        n_gone = min(max(0, position - self.start), self._n)
        self.start += n_gone
        self._offset += n_gone
        self._n -= n_gone

    def _make_room(self, n_more: int) -> None:
        held = self._data[self._offset : self._offset + self._n]
        capacity = max(_FIRST_CAPACITY, 2 * (self._n + n_more))  # also gives memory back after a long stretch
        data = np.empty(capacity, np.float32)
        data[: self._n] = held
        self._data, self._offset = data, 0


def quietest_point(samples: Samples, frame_samples: int) -> int:
    """The middle of the whole frame with the least energy (the earliest of equals); the middle of all if there is none."""
    n_frames = len(samples) // frame_samples
    if n_frames == 0:
        return len(samples) // 2
    frames = samples[: n_frames * frame_samples].reshape(n_frames, frame_samples)
    energies = np.einsum("ij,ij->i", frames, frames, dtype=np.float64)
    return int(np.argmin(energies)) * frame_samples + frame_samples // 2
