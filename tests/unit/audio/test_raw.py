"""Headerless samples and what may be said about them."""

from __future__ import annotations

import io

import numpy as np
import pytest

from asr_service.audio.decode import decode
from asr_service.audio.limits import AudioLimits
from asr_service.audio.source import Encoding, SourceFormat
from asr_service.errors import AudioEmpty, AudioTruncated, AudioUndecodable, InvalidValue
from asr_service.request import Samples
from tests.synth import Recipe, encode, tone

LIMITS = AudioLimits(max_bytes=10_000_000, max_seconds=600.0, max_channels=8, spool_bytes=0)


def decoded(data: bytes, fmt: SourceFormat) -> Samples:
    return np.concatenate(list(decode(io.BytesIO(data), fmt, LIMITS)))


def test_s16_is_read_exactly() -> None:
    codes = np.array([0, 1, -1, 32767, -32768], "<i2")

    heard = decoded(codes.tobytes(), SourceFormat(Encoding.PCM_S16LE, 16_000))

    assert heard.tolist() == [0.0, 1 / 32768, -1 / 32768, 32767 / 32768, -1.0]


def test_f32_is_read_exactly_and_not_clipped() -> None:
    samples = np.array([0.25, -2.5, 1e-20], "<f4")

    assert decoded(samples.tobytes(), SourceFormat(Encoding.PCM_F32LE, 16_000)).tolist() == samples.tolist()


@pytest.mark.parametrize(("encoding", "codec"), [(Encoding.MULAW, "pcm_mulaw"), (Encoding.ALAW, "pcm_alaw")])
def test_g711_is_read_as_ffmpeg_reads_it(encoding: Encoding, codec: str) -> None:
    every_code = bytes(range(256))
    wav = bytearray(encode(Recipe("wav", codec), np.zeros(256, np.float32)))
    at = wav.index(b"data") + 8
    wav[at : at + 256] = every_code

    assert np.array_equal(decoded(every_code, SourceFormat(encoding, 16_000)), decoded(bytes(wav), SourceFormat()))


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_give_the_exact_length(rate_hz: int) -> None:
    heard = decoded(tone(2.0, rate_hz).astype("<f4").tobytes(), SourceFormat(Encoding.PCM_F32LE, rate_hz))

    assert abs(len(heard) - 32_000) <= 1


def test_channels_are_mixed_with_equal_weights() -> None:
    interleaved = np.tile(np.array([0.9, 0.0, -0.3], "<f4"), 1_000)

    heard = decoded(interleaved.tobytes(), SourceFormat(Encoding.PCM_F32LE, 16_000, channels=3))

    assert len(heard) == 1_000
    assert heard == pytest.approx(0.2, abs=1e-6)


def test_reads_that_split_samples_change_nothing() -> None:
    class Odd(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            return super().read(min(n or 0, 7))

    data = np.arange(3_000, dtype="<i2").tobytes()
    fmt = SourceFormat(Encoding.PCM_S16LE, 16_000, channels=2)

    assert np.array_equal(np.concatenate(list(decode(Odd(data), fmt, LIMITS))), decoded(data, fmt))


def test_an_end_inside_a_sample_is_truncated() -> None:
    with pytest.raises(AudioTruncated, match="3 of 4 bytes"):
        decoded(bytes(4_003), SourceFormat(Encoding.PCM_S16LE, 16_000, channels=2))


def test_no_bytes_are_empty() -> None:
    with pytest.raises(AudioEmpty):
        decoded(b"", SourceFormat(Encoding.PCM_S16LE, 16_000))


def test_a_float_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(AudioUndecodable, match="not a number"):
        decoded(np.array([0.0, np.inf], "<f4").tobytes(), SourceFormat(Encoding.PCM_F32LE, 16_000))


@pytest.mark.parametrize(
    ("fmt", "field"),
    [
        (SourceFormat(Encoding.PCM_S16LE), "format.sample_rate_hz"),
        (SourceFormat(Encoding.PCM_S16LE, 7_999), "format.sample_rate_hz"),
        (SourceFormat(Encoding.PCM_F32LE, 48_001), "format.sample_rate_hz"),
        (SourceFormat(Encoding.MULAW, 8_000, channels=0), "format.channels"),
        (SourceFormat(Encoding.ALAW, 8_000, channels=9), "format.channels"),
        (SourceFormat(sample_rate_hz=16_000), "format.sample_rate_hz"),
        (SourceFormat(channels=1), "format.channels"),
    ],
)
def test_a_format_that_can_never_be_right_is_refused_by_field(fmt: SourceFormat, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        decoded(bytes(100), fmt)

    assert [violation.field for violation in caught.value.violations] == [field]
