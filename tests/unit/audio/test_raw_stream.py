"""Raw samples piece by piece."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.audio.raw_stream import RawStream
from asr_service.audio.source import Encoding
from asr_service.errors import AudioUndecodable
from asr_service.request import Samples


def _through(stream: RawStream, data: bytes, cuts: list[int]) -> Samples:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    parts = [stream.push(data[start:end]) for start, end in pairwise(edges)]
    return np.concatenate([*parts, stream.finish()])


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from([Encoding.PCM_S16LE, Encoding.PCM_F32LE, Encoding.MULAW, Encoding.ALAW]),
    rate_hz=st.sampled_from([8000, 11025, 16000, 44100, 48000]),
    n_channels=st.integers(1, 2),
    cuts=st.lists(st.integers(0, 10**6), max_size=30),
    seed=st.integers(0, 99),
)
def test_the_samples_do_not_depend_on_how_the_bytes_came(
    encoding: Encoding, rate_hz: int, n_channels: int, cuts: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tone = np.sin(np.arange(rate_hz // 4 * n_channels) / 7) * rng.uniform(0.1, 0.9)
    data = {
        Encoding.PCM_S16LE: (tone * 32767).astype("<i2"),
        Encoding.PCM_F32LE: tone.astype("<f4"),
    }.get(encoding, rng.integers(0, 256, len(tone), np.uint8)).tobytes()

    whole = _through(RawStream(encoding, rate_hz, n_channels), data, [])
    pieces = _through(RawStream(encoding, rate_hz, n_channels), data, cuts)

    assert np.array_equal(whole, pieces)
    assert len(whole) == pytest.approx(4000, abs=2)


def test_silence_counts_as_samples_of_the_source() -> None:
    stream = RawStream(Encoding.PCM_S16LE, 8000, 2, first=100)
    out = [stream.push(b"\1\2\3\4" * 400), stream.silence(400), stream.finish()]

    assert stream.position == 900
    assert sum(map(len, out)) == 1600


def test_bytes_of_an_unfinished_sample_wait_or_are_forgotten() -> None:
    stream = RawStream(Encoding.PCM_S16LE, 16000, 1)

    assert len(stream.push(b"\0")) == 0
    assert stream.n_bytes_left == 1
    assert stream.push(b"\x40") == pytest.approx([0.5])
    stream.push(b"\7")
    stream.drop_unfinished()
    assert stream.push(b"\0\x40") == pytest.approx([0.5])
    assert stream.position == 2


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(AudioUndecodable):
        RawStream(Encoding.PCM_F32LE, 16000, 1).push(np.array([np.nan], "<f4").tobytes())
