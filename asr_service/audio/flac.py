"""FLAC cut into its frames as the bytes come.

A frame does not state its length: it lasts until the next one begins. ffmpeg's parser believes in a beginning only when it has
seen ten, which is most of a second of sound. Here a beginning is believed when its checksum is right, it counts on from the
frame before, and it is of the same rate and resolution.

Bytes without a beginning for longer than a frame can be are given out as they are: judging them is the decoder's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FIRST_BYTES = 4 + 4 + 34
"""The mark, and the block that every FLAC begins with."""

_MARK = b"fLaC"
_BEGINNING = re.compile(rb"\xff[\xf8\xf9]|fLaC[\x00\x80]\x00\x00\x22")  # perhaps of a frame; of another FLAC
_MAX_HEADER_BYTES = 16
_SYNC, _SYNC_MASK = 0xFFF8, 0xFFFE
_BLOCK_SAMPLES = {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the first block says."""

    data: bytes  # 34, as ffmpeg's decoder wants them
    n_samples: int | None  # per channel; None where the encoder did not know
    max_frame_bytes: int  # of a frame that is no longer than its samples as they are

    @classmethod
    def find(cls, head: bytes) -> StreamInfo | None:
        """In the first FIRST_BYTES; None when another block is there."""
        if len(head) < FIRST_BYTES or head[4] & 0x7F != 0 or head[5:8] != b"\x00\x00\x22":
            return None
        data = head[8:FIRST_BYTES]
        fields = int.from_bytes(data[10:18], "big")  # 20 bits rate, 3 channels less 1, 5 bits of a sample less 1, 36 samples
        n_channels, sample_bits = (fields >> 41 & 0x7) + 1, (fields >> 36 & 0x1F) + 1
        sample_bytes = sample_bits // 8 + 1  # the difference of two channels takes a bit more
        max_frame_bytes = n_channels * (int.from_bytes(data[2:4], "big") * sample_bytes + 16) + 32
        return cls(data, fields & (1 << 36) - 1 or None, max_frame_bytes)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Which frame it is, and what all frames of a stream share."""

    kind: tuple[int, int, int]  # the codes of blocking, rate and resolution
    number: int  # of the frame, or of its first sample where the frames' lengths vary
    next_number: int


def read_frame_header(data: bytes) -> FrameHeader | None:
    """The header that starts with these (up to 16) bytes; None when none does, or not all of it is here."""
    if len(data) < 6 or int.from_bytes(data[:2], "big") & _SYNC_MASK != _SYNC:
        return None
    size_code, rate_code, resolution = data[2] >> 4, data[2] & 0xF, data[3] & 0xF
    if size_code == 0 or rate_code == 15 or data[3] >> 4 > 10 or resolution & 1:
        return None
    coded = _read_coded_number(data[4:11])
    if coded is None:
        return None
    number, at = coded[0], 4 + coded[1]
    n_size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    n_samples = _BLOCK_SAMPLES[size_code] if n_size_bytes == 0 else int.from_bytes(data[at : at + n_size_bytes], "big") + 1
    at += n_size_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if len(data) <= at or _checksum(data[:at]) != data[at]:
        return None
    is_varying = data[1] & 1
    return FrameHeader((is_varying, rate_code, resolution), number, number + (n_samples if is_varying else 1))


def _read_coded_number(data: bytes) -> tuple[int, int] | None:
    """(number, bytes) of a number coded as UTF-8 codes letters, in up to 7 bytes."""
    n_bytes = 8 - (~data[0] & 0xFF).bit_length()  # the ones in front
    if n_bytes == 0:
        return data[0], 1
    if n_bytes in (1, 8) or len(data) < n_bytes:
        return None
    number = data[0] & (0x7F >> n_bytes)
    for byte in data[1:n_bytes]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    return number, n_bytes


def _make_checksums() -> bytes:
    table = bytearray()
    for byte in range(256):
        checksum = byte
        for _ in range(8):
            checksum = (checksum << 1 ^ 0x07) & 0xFF if checksum & 0x80 else checksum << 1
        table.append(checksum)
    return bytes(table)


_CHECKSUMS = _make_checksums()


def _checksum(data: bytes) -> int:
    """CRC-8, polynomial 0x07."""
    checksum = 0
    for byte in data:
        checksum = _CHECKSUMS[checksum ^ byte]
    return checksum


class FlacFramer:
    """Feed it a FLAC from its mark on; another may follow it."""

    def __init__(self, info: StreamInfo) -> None:
        self._max_bytes = info.max_frame_bytes
        self._left = b""
        self._is_in_metadata = False
        self._is_last_block = False
        self._n_block_left = 0  # bytes of the mark, or of a block of metadata, still to come
        self._current: FrameHeader | None = None  # of the frame that `_left` begins with, if it begins with one
        self._n_searched = 0  # bytes of `_left` in which nothing else begins; 0: its own beginning was not looked at yet

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now."""
        self._left += data
        frames: list[bytes] = []
        while self._has_passed_metadata() and (end := self._find_end()) is not None:
            if end:
                frames.append(self._left[:end])
            self._left = self._left[end:]
            self._n_searched = 0
        return frames

    def finish(self) -> list[bytes]:
        """The last frame, with whatever follows it."""
        frames = [self._left] if self._left and not self._is_in_metadata else []
        self._left = b""
        return frames

    def _has_passed_metadata(self) -> bool:
        if self._n_searched == 0 and not self._is_in_metadata and self._left.startswith(_MARK):
            self._is_in_metadata, self._is_last_block, self._n_block_left = True, False, len(_MARK)
        while self._is_in_metadata:
            n_dropped = min(self._n_block_left, len(self._left))
            self._left = self._left[n_dropped:]
            self._n_block_left -= n_dropped
            if self._n_block_left == 0 and self._is_last_block:
                self._is_in_metadata = False
            elif self._n_block_left or len(self._left) < 4:
                return False
            else:
                self._is_last_block = self._left[0] & 0x80 != 0
                self._n_block_left = 4 + int.from_bytes(self._left[1:4], "big")
        return True

    def _find_end(self) -> int | None:
        """Where in `_left` something else begins, or all of it when it is too long."""
        if len(self._left) < _MAX_HEADER_BYTES:
            return None
        if self._n_searched == 0:
            self._current = read_frame_header(self._left[:_MAX_HEADER_BYTES])
        for found in _BEGINNING.finditer(self._left, max(1, self._n_searched)):
            at = found.start()
            if found[0].startswith(_MARK) or self._is_next(read_frame_header(self._left[at : at + _MAX_HEADER_BYTES])):
                return at
        self._n_searched = len(self._left) - _MAX_HEADER_BYTES + 1  # behind it, more bytes may make something a beginning
        return len(self._left) if len(self._left) > self._max_bytes else None

    def _is_next(self, header: FrameHeader | None) -> bool:
        if header is None or self._current is None:
            return header is not None
        return header.kind == self._current.kind and header.number == self._current.next_number
