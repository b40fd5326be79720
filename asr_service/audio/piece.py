"""Audio between decoder and resampler: mono, still at the source's rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asr_service.errors import AudioUndecodable
from asr_service.request import Samples


@dataclass(frozen=True, slots=True)
class Piece:
    """A short run of mono float32 samples, shape (n,), full scale +-1.0 but never clipped, at rate_hz."""

    rate_hz: int
    samples: Samples


def mix_down(channels: Samples) -> Samples:
    """(n_channels, n) to (n,), every channel with the same weight."""
    if channels.shape[0] == 1:
        return np.asarray(channels[0])
    return np.asarray(channels.mean(axis=0, dtype=np.float32))


def check_finite(samples: Samples) -> None:
    """A NaN would spread through every filter behind it; a float file that holds one is broken."""
    if not np.isfinite(samples).all():
        raise AudioUndecodable("the audio holds a sample that is not a number or infinite")
