"""MPEG audio frames (MP3, MP2, MP1): where they start, how long they are, and the length that the first may state."""

from __future__ import annotations

import struct

_BIT_RATES_KBPS = {  # by (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATE_DIVISORS = {3: 1, 2: 2, 0: 4}  # version bits: MPEG 1, 2, 2.5


def mp3_frame(header: bytes) -> tuple[int, int] | None:
    """(bytes, samples per channel) of the MPEG audio frame that starts with these 4 bytes; None when no frame starts here."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = (header[1] >> 3) & 3, 4 - ((header[1] >> 1) & 3)
    bit_rate_index, rate_index, padding = header[2] >> 4, (header[2] >> 2) & 3, (header[2] >> 1) & 1
    if version == 1 or layer == 4 or bit_rate_index in (0, 15) or rate_index == 3:
        return None
    mpeg1 = version == 3
    bit_rate = _BIT_RATES_KBPS[mpeg1, layer][bit_rate_index - 1] * 1000
    rate_hz = (44_100, 48_000, 32_000)[rate_index] // _RATE_DIVISORS[version]
    if layer == 1:
        return (12 * bit_rate // rate_hz + padding) * 4, 384
    n_samples = 576 if layer == 3 and not mpeg1 else 1152
    return n_samples // 8 * bit_rate // rate_hz + padding, n_samples


def find_mp3(head: bytes) -> int | None:
    """Where the first of three MPEG audio frames in a row starts (fewer only where the head itself ends); None without."""
    at = head.find(0xFF)
    while at >= 0:
        is_chain = _is_mp3_chain(head, at)
        if is_chain or (is_chain is None and at == 0):  # a very short file; junk in front needs the whole proof
            return at
        at = head.find(0xFF, at + 1)
    return None


def is_mp3_settled(head: bytes) -> bool:
    """Whether `find_mp3` has found a place that it will find in any longer head, too."""
    at = head.find(0xFF)
    while at >= 0:
        is_chain = _is_mp3_chain(head, at)
        if is_chain is not False:
            return is_chain is True
        at = head.find(0xFF, at + 1)
    return False


def _is_mp3_chain(head: bytes, at: int) -> bool | None:
    """Whether three frames in a row start at `at`; None when the head ends before that is known."""
    first = at
    for _ in range(3):
        frame = mp3_frame(head[at : at + 4])
        if frame is None or (head[at + 1] ^ head[first + 1]) & 0xFE or (head[at + 2] ^ head[first + 2]) & 0x0C:
            return False
        at += frame[0]
        if at + 4 > len(head):
            return None
    return True


def declared_samples(head: bytes) -> int | None:
    """Samples per channel that the first frame's Xing/Info note promises; None without such a note.

    `head` starts at or before the first frame.
    """
    at = find_mp3(head)
    frame = mp3_frame(head[at : at + 4]) if at is not None else None
    if at is None or frame is None:
        return None
    is_mpeg1, is_mono = head[at + 1] & 0x08 != 0, head[at + 3] >> 6 == 3
    side_bytes = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    note = head[at + 4 + side_bytes :][:12]
    if len(note) < 12 or note[:4] not in (b"Xing", b"Info"):
        return None
    flags, n_frames = struct.unpack(">II", note[4:])
    return int(n_frames) * frame[1] if flags & 1 else None
