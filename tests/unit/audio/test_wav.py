from __future__ import annotations

import struct

import pytest

from asr_service.audio.wav import plain_pcm, wav_header_bytes
from tests.synth import make


def header(tag: int = 1, n_channels: int = 2, rate_hz: int = 44_100, sample_bits: int = 16, n_bytes: int = 4_000) -> bytes:
    frame_bytes = n_channels * sample_bits // 8
    fmt = struct.pack("<HHIIHH", tag, n_channels, rate_hz, rate_hz * frame_bytes % (1 << 32), frame_bytes, sample_bits)
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    return b"RIFF\xff\xff\xff\xffWAVE" + odd + b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", n_bytes)


def test_the_header_ends_where_the_samples_begin() -> None:
    assert wav_header_bytes(header() + bytes(100)) == len(header())
    assert all(wav_header_bytes(header()[:n]) is None for n in range(len(header())))


def test_what_it_says_is_read() -> None:
    pcm = plain_pcm(header())

    assert pcm is not None
    assert (pcm.codec, pcm.rate_hz, pcm.n_channels) == ("pcm_s16le", 44_100, 2)
    assert (pcm.header_bytes, pcm.frame_bytes, pcm.n_bytes) == (len(header()), 4, 4_000)


@pytest.mark.parametrize("n_bytes", [0, 0x7FFFFFFF, 0x7FFFFFD3, 0x80000000, 0xFFFFFFFF])
def test_a_streamed_one_lasts_until_it_ends(n_bytes: int) -> None:
    pcm = plain_pcm(header(n_bytes=n_bytes))

    assert pcm is not None
    assert pcm.n_bytes is None


@pytest.mark.parametrize(
    "other",
    [
        header(tag=3, sample_bits=32),
        header(tag=7, sample_bits=8),
        header(sample_bits=12),
        header(n_channels=0),
        header(n_channels=65),
        header(rate_hz=0),
        header(rate_hz=1 << 31),
        header().replace(b"RIFF", b"RF64"),
        header().replace(b"fmt ", b"junk"),
    ],
)
def test_what_is_not_plain_is_left_to_ffmpeg(other: bytes) -> None:
    n_bytes = wav_header_bytes(other)

    assert n_bytes == len(other)
    assert plain_pcm(other) is None


@pytest.mark.parametrize(("name", "codec"), [("wav-s16", "pcm_s16le"), ("wav-u8", "pcm_u8"), ("wav-44k-stereo", "pcm_s16le")])
def test_usual_files_are_plain(name: str, codec: str) -> None:
    data = make(name, 0.1)
    pcm = plain_pcm(data[: wav_header_bytes(data)])

    assert pcm is not None
    assert pcm.codec == codec
