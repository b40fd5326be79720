"""Samples as 16-bit PCM, for recognisers that want it."""

from __future__ import annotations

import numpy as np

from asr_service.request import Samples

BYTES_PER_SAMPLE = 2


def to_int16(samples: Samples) -> bytes:
    """float32 -> little-endian int16. What exceeds +-1.0 (a downmix can) is turned down as a whole rather than clipped: a
    recogniser that removes the mean of the cepstra cares little about the level and a lot about distortion."""
    peak = max(1.0, float(np.max(np.abs(samples), initial=0.0)))
    return (samples * (32767.0 / peak)).round().astype("<i2").tobytes()
