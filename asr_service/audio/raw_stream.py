"""Headerless samples as they come in, piece by piece: any number of bytes, any rate, to 16 kHz."""

from __future__ import annotations

import numpy as np

from asr_service.audio.piece import check_finite, mix_down
from asr_service.audio.raw import to_float
from asr_service.audio.resample import Resampler
from asr_service.audio.source import Encoding
from asr_service.request import SAMPLE_RATE, Samples

_BLOCKS_PER_SECOND = 100
_NOTHING: Samples = np.zeros(0, np.float32)


class RawStream:
    """One source. What comes out does not depend on how the bytes were divided.

    Positions and counts are samples of the source, at its own rate, of all channels together. `first`: where it begins.
    """

    def __init__(self, encoding: Encoding, rate_hz: int, n_channels: int, first: int = 0) -> None:
        self._encoding = encoding
        self._n_channels = n_channels
        self.rate_hz = rate_hz
        self._bytes = b""  # of an unfinished sample
        self._resampler = Resampler(rate_hz)
        # The resampler's rounding depends on how its input is divided: it gets blocks of one size.
        self._block = 1 if rate_hz == SAMPLE_RATE else rate_hz // _BLOCKS_PER_SECOND
        self._held: Samples = _NOTHING  # of an unfinished block
        self.position = first

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self._n_channels * self._encoding.sample_bytes

    @property
    def n_bytes_left(self) -> int:
        """Bytes of a sample that is not complete yet."""
        return len(self._bytes)

    def push(self, data: bytes) -> Samples:
        """The samples at 16 kHz that have become ready, shape (n,). Raises AudioUndecodable for what is no number."""
        size = self.sample_bytes
        if self._bytes:
            data = self._bytes + data
        n_whole = len(data) - len(data) % size
        self._bytes = data[n_whole:]
        if n_whole == 0:
            return _NOTHING
        samples = to_float(data[:n_whole] if self._bytes else data, self._encoding)
        if self._encoding is Encoding.PCM_F32LE:
            check_finite(samples)
        if self._n_channels > 1:
            samples = mix_down(samples.reshape(-1, self._n_channels).T)
        return self._run(samples)

    def silence(self, n_samples: int) -> Samples:
        """The same for so many samples of silence."""
        return self._run(np.zeros(n_samples, np.float32))

    def drop_unfinished(self) -> None:
        """Forgets the bytes of a sample that is not complete: they will come again, or never."""
        self._bytes = b""

    def finish(self) -> Samples:
        """The rest; an unfinished sample is no part of it. Nothing may come after it."""
        held, self._held = self._held, _NOTHING
        if self._block == 1:
            return _NOTHING
        return np.concatenate((self._resampler.push(held), self._resampler.finish()))

    def _run(self, samples: Samples) -> Samples:
        self.position += len(samples)
        if self._block == 1:
            return samples
        held = np.concatenate((self._held, samples))
        n_whole = len(held) - len(held) % self._block
        self._held = held[n_whole:]
        blocks = [self._resampler.push(held[at : at + self._block]) for at in range(0, n_whole, self._block)]
        return np.concatenate(blocks) if blocks else _NOTHING
