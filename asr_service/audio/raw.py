"""Headerless samples: PCM and G.711."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from asr_service.audio.intake import Intake
from asr_service.audio.piece import Piece, mix_down
from asr_service.audio.source import Encoding
from asr_service.errors import AudioTruncated
from asr_service.request import Samples

_READ_BYTES = 32_768


def read_raw(intake: Intake, encoding: Encoding, rate_hz: int, n_channels: int) -> Iterator[Piece]:
    """The pieces of a raw source. Raises AudioTruncated when it ends inside a sample."""
    frame_bytes = n_channels * encoding.sample_bytes
    left = b""
    while data := intake.read(_READ_BYTES):
        data = left + data
        whole = len(data) - len(data) % frame_bytes
        left = data[whole:]
        if whole:
            interleaved = to_float(data[:whole], encoding)
            yield Piece(rate_hz, mix_down(interleaved.reshape(-1, n_channels).T))
    if left:
        raise AudioTruncated(f"the audio ends inside a sample: {len(left)} of {frame_bytes} bytes")


def to_float(data: bytes, encoding: Encoding) -> Samples:
    """Interleaved samples as float32, shape (n,)."""
    if encoding is Encoding.PCM_S16LE:
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    if encoding is Encoding.PCM_F32LE:
        return np.frombuffer(data, "<f4").astype(np.float32)
    codes = np.frombuffer(data, np.uint8)
    return _MULAW[codes] if encoding is Encoding.MULAW else _ALAW[codes]


def _mulaw_table() -> Samples:
    """G.711: inverted bits; sign, three of exponent, four of mantissa over a bias of 33 (132 at 16 bits)."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 132 << ((code >> 4) & 7)) - 132
    return _signed(magnitude, is_negative=code >= 128)


def _alaw_table() -> Samples:
    """G.711: even bits inverted; sign (1 is plus), three of exponent, four of mantissa, at 16 bits."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, mantissa + 264 << np.maximum(exponent - 1, 0))
    return _signed(magnitude, is_negative=code < 128)


def _signed(magnitude: NDArray[np.int32], *, is_negative: NDArray[np.bool_]) -> Samples:
    table: Samples = (np.where(is_negative, -magnitude, magnitude) / 32768).astype(np.float32)
    table.flags.writeable = False
    return table


_MULAW = _mulaw_table()
_ALAW = _alaw_table()
