"""Following a container's structure as its bytes go by, to say at the end whether all of it came.

Every container here is a row of elements: a header that says how long its body is, and the body. A walk reads headers and
counts bodies away; it keeps no more than one unfinished header. Only Ogg's looks at a body, for its checksum.

State            on bytes                                   at the end of the source
header           header complete -> body, or header again   whole if nothing of the next header came
body (n left)    n counted away  -> header                  cut: "n of m bytes of ... are missing"
body (open end)  stays                                      whole
lost             stays                                      no verdict on what is missing; `is_broken` where nothing may follow

Subclasses say what a header is, and what else a whole file needs (`_missing_at_end`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Element:
    """A header that was read: `header_bytes` long, `body_bytes` to follow (None: to the end of the source)."""

    name: str
    header_bytes: int
    body_bytes: int | None


class Lost(Exception):
    """No header of this format starts here."""


class Walk(ABC):
    """Feed it every byte of the source in order, then ask `missing`."""

    def __init__(self) -> None:
        self.position = 0  # bytes fed so far
        self.is_lost = False
        self._header = b""
        self._body_left: int | None = 0
        self._element = Element("beginning", 0, 0)

    def feed(self, data: bytes) -> None:
        self.position += len(data)
        at = 0
        while at < len(data) and not self.is_lost:
            if self._body_left is None:
                return
            if self._body_left > 0:
                taken = min(self._body_left, len(data) - at)
                self._body_left -= taken
                self._see_body(data[at : at + taken])
                at += taken
            else:
                at = self._feed_header(data, at)

    def _feed_header(self, data: bytes, at: int) -> int:
        """Reads a header that may have begun in earlier data; returns where its body starts in `data`."""
        held = len(self._header)
        candidate = self._header + data[at : at + self.max_header_bytes - held]
        try:
            element = self._read_header(candidate, self.position - len(data) + at - held)
        except Lost:
            self.is_lost = True
            return len(data)
        if element is None:
            self._header = candidate
            return len(data)
        self._header = b""
        self._element = element
        self._body_left = element.body_bytes
        return at + element.header_bytes - held

    @property
    def missing(self) -> str | None:
        """What of the source did not come, as the end of a sentence; None when it is whole or cannot be judged."""
        if self.is_lost:
            return None
        if self._body_left:
            return f"{self._body_left} of the {self._element.body_bytes} bytes of its {self._element.name}"
        if self._header:
            return f"the rest of a header of which {len(self._header)} bytes came"
        return self._missing_at_end()

    max_header_bytes = 64

    @abstractmethod
    def _read_header(self, data: bytes, position: int) -> Element | None:
        """The element that starts with `data` at `position`; None when more bytes are needed; raises Lost."""

    def _see_body(self, data: bytes) -> None:  # noqa: B027 - most walks only count
        """The next bytes of the current body."""

    def _missing_at_end(self) -> str | None:
        return None

    @property
    def is_broken(self) -> bool:
        """Whether the structure ends in something that the format does not allow there."""
        return False
