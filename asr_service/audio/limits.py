"""How much audio one source may bring."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Bounds of one source; passing any of them raises AudioTooLarge the moment it happens."""

    max_bytes: int  # as sent: compressed, container included
    max_seconds: float  # decoded
    max_channels: int
    spool_bytes: int  # of a container that must be on disk before it can be read (MP4 with its index at the end, CAF)
