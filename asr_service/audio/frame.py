"""A decoded frame's samples as floats, whatever their format."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from asr_service.request import Samples

_MAX_SAFE_PLANES = 7
"""PyAV 18 looks for a plane's end by a null pointer that is not there with 8 planes, and reads past the array."""


def to_float(frame: AudioFrame) -> Samples:
    """(n_channels, n) as float32, integers scaled to +-1.0, floats as they are."""
    n_channels = frame.layout.nb_channels
    if frame.format.is_planar and n_channels > _MAX_SAFE_PLANES:
        return _interleave(frame)
    data: NDArray[Any] = frame.to_ndarray()  # (n_channels, n) if planar, else (1, n * n_channels)
    channels = data if frame.format.is_planar else data.reshape(-1, n_channels).T
    if channels.dtype == np.uint8:
        return np.asarray((channels.astype(np.float32) - np.float32(128)) / np.float32(128))
    if np.issubdtype(channels.dtype, np.integer):
        return np.asarray(channels.astype(np.float32) / np.float32(2 ** (8 * channels.itemsize - 1)))
    return channels.astype(np.float32, copy=False)


def _interleave(frame: AudioFrame) -> Samples:
    """The same by way of ffmpeg's own conversion to one plane; rate and layout stay, so nothing is held back."""
    frame.pts = None  # the converter wants them without gaps; nobody needs them
    converter = AudioResampler("flt", frame.layout, frame.sample_rate)
    converted = [*converter.resample(frame), *converter.resample(None)]
    return np.concatenate([part.to_ndarray().reshape(-1, frame.layout.nb_channels).T for part in converted], axis=1)
