"""What goes through the pipes between the service and a recogniser process.

A frame is two big-endian uint32 lengths, a JSON object, and bytes (samples, or nothing):

    n_header  n_payload  header  payload

This module does no I/O and is imported on both sides; the process must start fast, so it needs no numpy.
"""

from __future__ import annotations

import json
import struct
from typing import Any

LENGTHS = struct.Struct(">II")
MAX_HEADER_BYTES = 16 * 2**20
MAX_PAYLOAD_BYTES = 256 * 2**20

Frame = tuple[dict[str, Any], bytes]


class BadFrame(Exception):
    """The other side does not speak this; the pipe is of no more use."""


def pack(header: dict[str, Any], payload: bytes = b"") -> bytes:
    head = json.dumps(header, separators=(",", ":")).encode()
    return LENGTHS.pack(len(head), len(payload)) + head + payload


def unpack_lengths(data: bytes) -> tuple[int, int]:
    """(n_header, n_payload) in bytes. Raises BadFrame when they cannot be right."""
    n_header, n_payload = LENGTHS.unpack(data)
    if n_header > MAX_HEADER_BYTES or n_payload > MAX_PAYLOAD_BYTES:
        raise BadFrame(f"frame of {n_header} + {n_payload} bytes (limit {MAX_HEADER_BYTES} + {MAX_PAYLOAD_BYTES})")
    return n_header, n_payload


def unpack_header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except ValueError as error:
        raise BadFrame(f"header is not JSON: {data[:64]!r}") from error
    if not isinstance(header, dict):
        raise BadFrame(f"header is not an object: {data[:64]!r}")
    return header


class FrameBuffer:
    """Bytes in as they come, whole frames out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> Frame | None:
        """The next frame, or None until more bytes come. Raises BadFrame."""
        if len(self._data) < LENGTHS.size:
            return None
        n_header, n_payload = unpack_lengths(bytes(self._data[: LENGTHS.size]))
        header_end = LENGTHS.size + n_header
        end = header_end + n_payload
        if len(self._data) < end:
            return None
        header = unpack_header(bytes(self._data[LENGTHS.size : header_end]))
        payload = bytes(self._data[header_end:end])
        del self._data[:end]
        return header, payload
