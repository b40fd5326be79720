"""Containers whose bytes come as they are spoken: the same samples as of a file, and as early as their bytes allow."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr_service.audio.decode import decode
from asr_service.audio.limits import AudioLimits
from asr_service.audio.mp3 import declared_samples
from asr_service.audio.sniff import SNIFF_BYTES, is_settled, sniff
from asr_service.audio.source import Encoding, SourceFormat
from asr_service.errors import AudioTruncated, AudioUndecodable, InvalidValue
from asr_service.request import Samples
from tests.synth import RECIPES, Recipe, make, sweep

LIMITS = AudioLimits(max_bytes=50_000_000, max_seconds=600.0, max_channels=8, spool_bytes=10_000_000)
SECONDS = 4.0
SPOOLED = ("m4a", "mp4-video", "caf")  # nothing of them can be decoded before their end
STREAMED = tuple(name for name in RECIPES if name not in SPOOLED)


@functools.cache
def made(name: str, seconds: float = SECONDS) -> bytes:
    return make(name, seconds)


class Chunks:
    """A source that brings its bytes in chunks of the given sizes, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._at = data, 0
        self._sizes, self._n_reads = sizes, 0

    def read(self, n: int, /) -> bytes:
        size = min(n, self._sizes[self._n_reads % len(self._sizes)])
        self._n_reads += 1
        chunk = self._data[self._at : self._at + size]
        self._at += len(chunk)
        return chunk


def decoded_live(data: bytes, sizes: list[int], fmt: SourceFormat = SourceFormat()) -> Samples:  # noqa: B008 - frozen
    return np.concatenate(list(decode(Chunks(data, sizes), fmt, LIMITS, live=True)))


@functools.cache
def decoded_whole(name: str) -> Samples:
    return np.concatenate(list(decode(io.BytesIO(made(name)), SourceFormat(), LIMITS)))


@pytest.mark.parametrize("name", STREAMED)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=8))
def test_however_the_bytes_come_the_samples_are_those_of_the_file(name: str, sizes: list[int]) -> None:
    assert np.array_equal(decoded_live(made(name), sizes), decoded_whole(name))
