"""The beginning of a WAV with plain PCM, read as it comes.

ffmpeg looks through the first 64 KiB of such samples for other codecs in disguise, which is two seconds of speech.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_HEADER_BYTES = 65_536
"""As much is read in search of the samples; a header with more in it is left to ffmpeg."""

STREAMED_SIZES_FROM = 0x7FFFF000
"""WAV writers that cannot go back put 0, 0x7FFFFFFF less a header, 0x80000000 or 0xFFFFFFFF for "until it ends"."""

_MAX_CHANNELS, _MAX_RATE_HZ = 64, 768_000
_CODECS = {8: "pcm_u8", 16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le"}


@dataclass(frozen=True, slots=True)
class PlainPcm:
    """What a WAV's header says. `n_bytes` of samples; None: until it ends."""

    header_bytes: int  # before the first sample
    codec: str  # ffmpeg's name
    rate_hz: int
    n_channels: int
    frame_bytes: int  # of one sample of every channel
    n_bytes: int | None


def wav_header_bytes(head: bytes) -> int | None:
    """Bytes before the first sample; None while the chunk with the samples has not come."""
    at = 12
    while len(head) >= at + 8:
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"data":
            return at + 8
        at += 8 + size + size % 2
    return None


def plain_pcm(header: bytes) -> PlainPcm | None:
    """What all bytes before the first sample say; None when it is not plain PCM in an ordinary WAV."""
    at = 12
    while header[at : at + 4] not in (b"fmt ", b"data"):
        (size,) = struct.unpack_from("<I", header, at + 4)
        at += 8 + size + size % 2
    if not header.startswith(b"RIFF") or header[at : at + 4] != b"fmt " or len(header) < at + 24:
        return None
    tag, n_channels, rate_hz, _, frame_bytes, sample_bits = struct.unpack_from("<HHIIHH", header, at + 8)
    if tag != 1 or sample_bits not in _CODECS or n_channels * sample_bits != 8 * frame_bytes:
        return None
    if not 1 <= n_channels <= _MAX_CHANNELS or not 1 <= rate_hz <= _MAX_RATE_HZ:
        return None
    (n_bytes,) = struct.unpack("<I", header[-4:])
    is_open_ended = n_bytes == 0 or n_bytes >= STREAMED_SIZES_FROM
    return PlainPcm(len(header), _CODECS[sample_bits], rate_hz, n_channels, frame_bytes, None if is_open_ended else n_bytes)
