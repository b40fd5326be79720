"""Walks through the containers made for streaming: Ogg, Matroska/WebM, ADTS."""

from __future__ import annotations

import struct
import zlib

from asr_service.audio.sniff import adts_frame_bytes
from asr_service.audio.walk import Element, Lost, Walk

_OGG_FIRST, _OGG_LAST = 0x02, 0x04


class OggWalk(Walk):
    """Pages of 27 bytes + a table + bodies. Each page has a checksum, each logical stream says which page is its last.

    A demuxer passes over bad pages, at times without a word, so the checksums are made here again.
    """

    max_header_bytes = 27 + 255

    def __init__(self) -> None:
        super().__init__()
        self._open_streams: set[int] = set()
        self._has_audio = False
        self._is_broken = False
        self._checksum = self._stated_checksum = 0  # of the current page, in _reversed form
        self._page_left = 0

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if not data.startswith(b"OggS"[: len(data)]):
            self._is_broken = bool(self._open_streams)  # after the last page anything may follow
            raise Lost
        if len(data) < 27 or len(data) < 27 + data[26]:
            return None
        flags, (position_, serial) = data[5], struct.unpack_from("<qI", data, 6)
        if flags & _OGG_FIRST:
            self._open_streams.add(serial)
        if flags & _OGG_LAST:
            self._open_streams.discard(serial)
        self._has_audio = self._has_audio or position_ > 0
        header_bytes = 27 + data[26]
        self._page_left = sum(data[27:header_bytes])
        self._stated_checksum = int.from_bytes(data[22:26].translate(_REVERSED), "big")
        self._checksum = _add_to_checksum(0, data[:22] + bytes(4) + data[26:header_bytes])
        element = Element("page", header_bytes, self._page_left)
        self._see_body(b"")
        return element

    def _see_body(self, data: bytes) -> None:
        self._checksum = _add_to_checksum(self._checksum, data)
        self._page_left -= len(data)
        if self._page_left == 0 and self._checksum != self._stated_checksum:
            self._is_broken = True

    def _missing_at_end(self) -> str | None:
        return "its last page" if self._open_streams and self._has_audio else None

    @property
    def is_broken(self) -> bool:
        return self._is_broken


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _add_to_checksum(checksum: int, data: bytes) -> int:
    """Ogg's CRC is zlib's with the bits of every byte the other way round, starting from 0 and not inverted at the end."""
    return zlib.crc32(data.translate(_REVERSED), checksum ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


_EBML_INSIDE = {b"\x18\x53\x80\x67": "segment", b"\x1f\x43\xb6\x75": "cluster"}  # walked into, not over
_EBML_OVER = {
    b"\x1a\x45\xdf\xa3": "header",
    b"\x11\x4d\x9b\x74": "seek head",
    b"\x15\x49\xa9\x66": "information",
    b"\x16\x54\xae\x6b": "track list",
    b"\x1c\x53\xbb\x6b": "index",
    b"\x19\x41\xa4\x69": "attachments",
    b"\x10\x43\xa7\x70": "chapters",
    b"\x12\x54\xc3\x67": "tags",
    b"\xec": "padding",
    b"\xbf": "checksum",
    b"\xe7": "timestamp",
    b"\x58\x54": "silent tracks",
    b"\xa7": "position",
    b"\xab": "previous size",
    b"\xa3": "block",
    b"\xa0": "block group",
    b"\xaf": "encrypted block",
}


class MatroskaWalk(Walk):
    """EBML elements; segment and clusters are walked into, and where they state a size, the file must reach their end."""

    def __init__(self) -> None:
        super().__init__()
        self._must_reach = 0
        self._is_broken = False

    def _read_header(self, data: bytes, position: int) -> Element | None:
        id_bytes = _vint_bytes(data[0] or 1)
        if len(data) <= id_bytes:
            return None
        size_bytes = _vint_bytes(data[id_bytes] or 1)
        header_bytes = id_bytes + size_bytes
        if len(data) < header_bytes:
            return None
        ident = data[:id_bytes]
        bits = 7 * size_bytes
        size = int.from_bytes(data[id_bytes:header_bytes], "big") & ((1 << bits) - 1)
        is_open_ended = size == (1 << bits) - 1
        if ident in _EBML_INSIDE:
            if not is_open_ended:
                self._must_reach = max(self._must_reach, position + header_bytes + size)
            return Element(_EBML_INSIDE[ident], header_bytes, 0)
        if ident not in _EBML_OVER or is_open_ended:
            self._is_broken = position < self._must_reach or self._must_reach == 0
            raise Lost
        return Element(_EBML_OVER[ident], header_bytes, size)

    def _missing_at_end(self) -> str | None:
        left = self._must_reach - self.position
        return f"its last {left} bytes" if left > 0 else None

    @property
    def is_broken(self) -> bool:
        return self._is_broken


def _vint_bytes(first: int) -> int:
    """Length of an EBML number from its first byte: one more than the zeros in front of its highest bit."""
    return 9 - first.bit_length()


class AdtsWalk(Walk):
    """AAC frames back to back. Tags behind them are no frames and end the walk."""

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if len(data) < 7:
            if data[:1] != b"\xff":
                raise Lost
            return None
        n_bytes = adts_frame_bytes(data)
        if n_bytes is None:
            raise Lost
        return Element("last frame", 7, n_bytes - 7)
