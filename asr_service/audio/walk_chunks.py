"""Walks through the containers made of named chunks: WAV, AIFF, AU, CAF, MP4, and FLAC's beginning."""

from __future__ import annotations

import struct

from asr_service.audio.walk import Element, Lost, Walk
from asr_service.audio.wav import STREAMED_SIZES_FROM


class WavWalk(Walk):
    """RIFF: 12 bytes, then chunks of 8 + size (padded to even). Only the chunk with the samples decides."""

    def __init__(self) -> None:
        super().__init__()
        self._has_data = False

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if position == 0:
            return Element("RIFF header", 12, 0) if len(data) >= 12 else None
        if self._has_data:
            raise Lost  # what follows the samples is of no interest, and often sloppy
        if len(data) < 8:
            return None
        name, size = struct.unpack_from("<4sI", data)
        if name != b"data":
            return Element("chunk", 8, size + size % 2)
        self._has_data = True
        return Element("samples", 8, None if size == 0 or size >= STREAMED_SIZES_FROM else size)

    def _missing_at_end(self) -> str | None:
        return None if self._has_data else "the chunk with the samples"


class AiffWalk(Walk):
    """As RIFF, with the other byte order and chunks in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._has_samples = False

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if position == 0:
            return Element("FORM header", 12, 0) if len(data) >= 12 else None
        if len(data) < 8:
            return None
        name, size = struct.unpack_from(">4sI", data)
        if name != b"SSND":
            if self._has_samples:
                raise Lost
            return Element("chunk", 8, size + size % 2)
        self._has_samples = True
        return Element("samples", 8, size)

    def _missing_at_end(self) -> str | None:
        return None if self._has_samples else "the chunk with the samples"


class AuWalk(Walk):
    """A header that says how long it and the samples are; 0xFFFFFFFF for "until it ends"."""

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if position != 0:
            raise Lost
        if len(data) < 12:
            return None
        offset, size = struct.unpack_from(">II", data, 4)
        return Element("samples", 12, None if size == 0xFFFFFFFF else max(0, offset - 12) + size)


class CafWalk(Walk):
    """8 bytes, then chunks of 12 + size; the samples' chunk may say -1 for "until it ends"."""

    def __init__(self) -> None:
        super().__init__()
        self._has_data = False

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if position == 0:
            return Element("CAF header", 8, 0) if len(data) >= 8 else None
        if len(data) < 12:
            return None
        name, size = struct.unpack_from(">4sq", data)
        self._has_data = self._has_data or name == b"data"
        if size < 0 and name != b"data":
            raise Lost
        return Element("samples" if name == b"data" else "chunk", 12, None if size < 0 else size)

    def _missing_at_end(self) -> str | None:
        return None if self._has_data else "the chunk with the samples"


class Mp4Walk(Walk):
    """Boxes of 8 bytes (size, name) or 16 (64-bit size). `needs_seek` is known once the index or the samples turn up."""

    def __init__(self) -> None:
        super().__init__()
        self.needs_seek: bool | None = None
        self.index_end: int | None = None  # how many bytes it takes to have all of an index that is in front
        self._has_index = False

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if len(data) < 8:
            return None
        size, name = struct.unpack_from(">I4s", data)
        header_bytes = 16 if size == 1 else 8
        if len(data) < header_bytes:
            return None
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, 8)
        if not all(0x20 <= c < 0x7F or c == 0xA9 for c in name) or (size != 0 and size < header_bytes):
            raise Lost
        self._has_index = self._has_index or name == b"moov"
        if self.needs_seek is None and name in (b"moov", b"mdat"):
            self.needs_seek = name == b"mdat"
            self.index_end = position + size if name == b"moov" and size else None
        return Element(f"box {name.decode('latin-1')!r}", header_bytes, size - header_bytes if size else None)

    def _missing_at_end(self) -> str | None:
        return None if self._has_index else "its index (the box 'moov')"


class FlacWalk(Walk):
    """4 bytes, then metadata blocks of 4 + size up to the one marked last. The frames are left to the decoder, which counts."""

    def __init__(self) -> None:
        super().__init__()
        self._is_at_frames = False

    def _read_header(self, data: bytes, position: int) -> Element | None:
        if len(data) < 4:
            return None
        if position == 0:
            return Element("FLAC mark", 4, 0)
        if self._is_at_frames:
            return Element("frames", 0, None)
        self._is_at_frames = data[0] & 0x80 != 0
        return Element("metadata", 4, int.from_bytes(data[1:4], "big"))

    def _missing_at_end(self) -> str | None:
        return None if self._is_at_frames else "the rest of its metadata"
