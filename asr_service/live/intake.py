"""A client's bytes on their way to the detector: raw samples where they arrive, containers through a decoder process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr_service.audio.pool import DecodePool
from asr_service.audio.raw_stream import RawStream
from asr_service.audio.source import SourceFormat
from asr_service.errors import AudioTruncated, InvalidValue, ResumeWindowGone
from asr_service.request import SAMPLE_RATE, Samples

_MAX_AHEAD = 5 * SAMPLE_RATE
_MAX_BYTES_AHEAD = 1024 * 1024
_NO_FRAMES: NDArray[np.float32] = np.zeros(0, np.float32)


class Ear(Protocol):
    """Where samples go; audio.vad_batch.LiveDetector is one."""

    @property
    def n_waiting(self) -> int: ...

    def push(self, samples: Samples) -> None: ...

    def after(self, act: Callable[[], None]) -> None: ...

    def close(self) -> None: ...


class OpenEar:
    """For sessions without a detector: everything is told at once."""

    n_waiting = 0

    def __init__(self, tell: Callable[[Samples, NDArray[np.float32]], None]) -> None:
        self._tell = tell

    def push(self, samples: Samples) -> None:
        self._tell(samples, _NO_FRAMES)

    def after(self, act: Callable[[], None]) -> None:
        act()

    def close(self) -> None:
        """Nothing waits."""


class IntakeOwner(Protocol):
    """Who has an intake."""

    def moved(self) -> None:
        """There may be room again."""

    def note(self, code: str, field: str, message: str) -> None:
        """A warning."""

    def fail(self, error: Exception) -> None:
        """The audio cannot be gone on with."""


class Intake(Protocol):
    """One session's. `after` and `finish` call `act` when all audio before has been told to the session."""

    @property
    def is_full(self) -> bool:
        """Enough is waiting: read no more for now."""
        ...

    @property
    def is_replaying(self) -> bool:
        """The client sends again what is here already."""
        ...

    @property
    def n_bytes_left(self) -> int:
        """Bytes of a sample that is not complete yet."""
        ...

    def audio(self, data: bytes, first_sample: int | None) -> None: ...

    def silence(self, ms: int) -> None: ...

    def after(self, act: Callable[[], None]) -> None: ...

    def finish(self, act: Callable[[], None]) -> None:
        """No audio comes any more."""
        ...

    def resumed(self) -> None:
        """Another connection brings the rest."""
        ...

    async def close(self) -> None: ...


class RawIntake:
    """Headerless samples. A client that was cut off sends again from a sample that it names; what is here is skipped."""

    def __init__(self, stream: RawStream, ear: Ear, *, is_resumed: bool) -> None:
        self._stream = stream
        self._ear = ear
        self._skip = 0  # bytes that will come again
        self._wants_position = is_resumed

    @property
    def is_full(self) -> bool:
        return self._ear.n_waiting > _MAX_AHEAD

    @property
    def is_replaying(self) -> bool:
        return self._skip > 0

    def audio(self, data: bytes, first_sample: int | None) -> None:
        """Raises InvalidValue, ResumeWindowGone."""
        if first_sample is not None:
            self._find(first_sample)
        elif self._wants_position:
            raise InvalidValue.of("audio.first_sample", "needed with the first audio after resume")
        if self._skip:
            n_skipped = min(self._skip, len(data))
            self._skip -= n_skipped
            data = data[n_skipped:]
        if data:
            self._push(self._stream.push(data))

    def silence(self, ms: int) -> None:
        if self._wants_position:
            raise InvalidValue.of("silence", "the first message after resume that takes time must be audio with first_sample")
        n_samples = self._stream.rate_hz * ms // 1000
        n_skipped = min(self._skip // self._stream.sample_bytes, n_samples)
        self._skip -= n_skipped * self._stream.sample_bytes
        if n_samples > n_skipped:
            self._push(self._stream.silence(n_samples - n_skipped))

    def after(self, act: Callable[[], None]) -> None:
        self._ear.after(act)

    @property
    def n_bytes_left(self) -> int:
        return self._stream.n_bytes_left

    def finish(self, act: Callable[[], None]) -> None:
        self._push(self._stream.finish())
        self._ear.after(act)

    def resumed(self) -> None:
        self._stream.drop_unfinished()
        self._skip = 0
        self._wants_position = True

    async def close(self) -> None:
        """Nothing is held outside."""

    def _find(self, first_sample: int) -> None:
        if first_sample > self._stream.position:
            n_missing = first_sample - self._stream.position
            raise ResumeWindowGone(
                f"audio.first_sample: {first_sample} leaves a gap of {n_missing} samples (expected at most "
                f"{self._stream.position})"
            )
        self._stream.drop_unfinished()
        self._skip = (self._stream.position - first_sample) * self._stream.sample_bytes
        self._wants_position = False

    def _push(self, samples: Samples) -> None:
        if len(samples):
            self._ear.push(samples)


class ContainerIntake:
    """The bytes of a container, decoded in a process while they come. `owner` hears how it goes."""

    is_replaying = False
    n_bytes_left = 0

    def __init__(self, decoders: DecodePool, fmt: SourceFormat, ear: Ear, owner: IntakeOwner) -> None:
        self._decoders = decoders
        self._format = fmt
        self._ear = ear
        self._owner = owner
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._n_bytes_ahead = 0
        self._room = asyncio.Event()
        self._act: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None  # not before there are bytes

    @property
    def is_full(self) -> bool:
        return self._n_bytes_ahead > _MAX_BYTES_AHEAD

    def audio(self, data: bytes, first_sample: int | None) -> None:
        """Raises InvalidValue."""
        if first_sample is not None:
            raise InvalidValue.of(
                "audio.first_sample", "a container has no samples to count before it is decoded; leave it out"
            )
        if self._task is None:
            self._task = asyncio.create_task(self._decode())
        self._n_bytes_ahead += len(data)
        self._chunks.put_nowait(data)

    def silence(self, ms: int) -> None:
        """Raises InvalidValue."""
        raise InvalidValue.of("silence", f"{ms} ms cannot be put into a container, which keeps its own time")

    def after(self, act: Callable[[], None]) -> None:
        """After what has been decoded so far."""
        self._ear.after(act)

    def finish(self, act: Callable[[], None]) -> None:
        self._act = act
        if self._task is None:
            self._ear.after(act)
        self._chunks.put_nowait(None)

    def resumed(self) -> None:
        """Raises InvalidValue."""
        raise InvalidValue.of("resume", "a session with a container cannot be resumed")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _decode(self) -> None:
        try:
            blocks = self._decoders.decode(self._bytes(), self._format, interactive=True, live=True)
            async with aclosing(blocks):
                async for block in blocks:
                    self._ear.push(block)
                    await self._heard()
        except AudioTruncated as error:
            # A recorder that was stopped leaves its container open; all that came was heard.
            self._owner.note("AUDIO_IRREGULAR", "audio", error.message)
            self._ear.after(self._act)
        except Exception as error:  # whatever it is, the session has to hear of it
            self._owner.fail(error)
        else:
            self._ear.after(self._act)

    async def _bytes(self) -> AsyncIterator[bytes]:
        while (data := await self._chunks.get()) is not None:
            self._n_bytes_ahead -= len(data)
            self._owner.moved()
            yield data

    async def _heard(self) -> None:
        """Waits while the detector has enough."""
        if self._ear.n_waiting > _MAX_AHEAD:
            self._room.clear()
            self._ear.after(self._room.set)
            await self._room.wait()
