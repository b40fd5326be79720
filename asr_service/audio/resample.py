"""Any rate to 16 kHz, without a seam between pieces, and blocks of one size out of what comes."""

from __future__ import annotations

import numpy as np
import soxr

from asr_service.request import SAMPLE_RATE, Samples

BLOCK_SAMPLES = SAMPLE_RATE
"""Samples of a block that leaves the decoder: one second (64 KiB); the last may be shorter."""


class Resampler:
    """One source's way from rate_hz to SAMPLE_RATE; n samples in give n * SAMPLE_RATE / rate_hz out, rounded."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._stream = None if rate_hz == SAMPLE_RATE else soxr.ResampleStream(rate_hz, SAMPLE_RATE, 1, "float32", "HQ")

    def push(self, samples: Samples) -> Samples:
        """What is ready, shape (m,); m lags behind the input by the filter's length."""
        return self._run(samples, is_last=False)

    def finish(self) -> Samples:
        """The rest. The resampler is used up then."""
        return self._run(np.zeros(0, np.float32), is_last=True)

    def _run(self, samples: Samples, *, is_last: bool) -> Samples:
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(np.ascontiguousarray(samples), last=is_last), np.float32)


class Blocks:
    """Gathers runs of any length into blocks of exactly BLOCK_SAMPLES."""

    def __init__(self) -> None:
        self._parts: list[Samples] = []
        self._n_held = 0

    def push(self, samples: Samples) -> list[Samples]:
        self._parts.append(samples)
        self._n_held += len(samples)
        if self._n_held < BLOCK_SAMPLES:
            return []
        joined = np.concatenate(self._parts)
        n_whole = len(joined) - len(joined) % BLOCK_SAMPLES
        self._parts = [joined[n_whole:]]
        self._n_held = len(joined) - n_whole
        return [joined[at : at + BLOCK_SAMPLES] for at in range(0, n_whole, BLOCK_SAMPLES)]

    def finish(self) -> list[Samples]:
        """The rest, if any."""
        held, self._parts, self._n_held = self._parts, [], 0
        rest = np.concatenate(held) if held else np.zeros(0, np.float32)
        return [rest] if len(rest) else []
