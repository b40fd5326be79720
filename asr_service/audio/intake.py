"""The bytes of one source on their way to a demuxer: counted, peeked at, and shown to a walk as they pass."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from typing import IO, Protocol

from asr_service.audio.walk import Walk
from asr_service.errors import AudioTooLarge

_READ_BYTES = 65_536


class Readable(Protocol):
    """A blocking stream; b"" is its end."""

    def read(self, n: int, /) -> bytes: ...


class Intake:
    """Has no `seek`, by which PyAV knows that it cannot go back."""

    def __init__(self, source: Readable, *, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._ahead = b""
        self.is_at_end = False  # of the source; there may be bytes that were peeked at
        self.n_bytes = 0  # taken from the source
        self.walk: Walk | None = None

    def read(self, n: int) -> bytes:
        """Up to n bytes; b"" at the end. Raises AudioTooLarge as soon as the source has brought more than it may."""
        data = self._ahead[:n] if self._ahead else self._take(n)
        self._ahead = self._ahead[len(data) :]
        if self.walk is not None:
            self.walk.feed(data)
        return data

    def peek(self, n: int) -> bytes:
        """The next n bytes, fewer only at the end of the source; `read` brings them again."""
        parts, have = [self._ahead], len(self._ahead)
        while have < n and (more := self._take(n - have)):
            parts.append(more)
            have += len(more)
        self._ahead = b"".join(parts)
        return self._ahead[:n]

    def peek_on(self, n: int) -> bytes:
        """Of the next n bytes those that were peeked at so far and what one more read brings; no more only at the end.

        For verdicts that a few bytes may settle: a live source may not bring the rest for long.
        """
        self._ahead += self._take(n - len(self._ahead)) if len(self._ahead) < n else b""
        return self._ahead[:n]

    def skip(self, n: int) -> int:
        """Drops the next n bytes, without the walk; returns how many there were."""
        left = n
        while left > 0:
            dropped = len(self.peek(min(left, _READ_BYTES)))
            if not dropped:
                break
            self._ahead = self._ahead[dropped:]
            left -= dropped
        return n - left

    def spool(self, *, max_bytes: int, why: str) -> Spooled:
        """What is left of the source as an unnamed file on disk, at its beginning. The caller closes it."""
        with ExitStack() as on_failure:
            file = on_failure.enter_context(tempfile.TemporaryFile(prefix="asr-spool-"))
            n_bytes = 0
            while data := self.read(_READ_BYTES):
                n_bytes += len(data)
                if n_bytes > max_bytes:
                    raise AudioTooLarge(f"{why}: {n_bytes} bytes or more (limit {max_bytes} bytes)")
                file.write(data)
            file.seek(0)
            on_failure.pop_all()
        return Spooled(file, n_bytes)

    def drain(self) -> None:
        """Reads to the end, for the walk's sake: a demuxer stops at the last sample, not at the last byte."""
        while self.read(_READ_BYTES):
            pass

    def _take(self, n: int) -> bytes:
        if self.is_at_end:
            return b""
        data = self._source.read(n)
        self.is_at_end = not data
        self.n_bytes += len(data)
        if self.n_bytes > self._max_bytes:
            raise AudioTooLarge(f"the audio has {self.n_bytes} bytes or more (limit {self._max_bytes} bytes)")
        return data


class Spooled:
    """A source on disk, for demuxers that go back and forth. Closing it deletes it."""

    def __init__(self, file: IO[bytes], n_bytes: int) -> None:
        self._file = file
        self._n_bytes = n_bytes

    def read(self, n: int) -> bytes:
        return self._file.read(n)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Damaged tables point to places so far away that the system refuses them; those read as the end, like any other."""
        return self._file.seek(min(offset, self._n_bytes), whence)

    def close(self) -> None:
        self._file.close()
