"""What a live session has said, and what of it may have to be said again.

Positions are samples of all channels together, at the source's own rate, from the first one of the session.

entry        -> next       when
waiting      -> sent       it was taken, and may have to be said again
waiting      -> (gone)     it was taken, and nothing is kept
sent         -> waiting    the connection was lost (`rewind`)
sent         -> (gone)     the server needs it no more (`forget`)

Of what is gone two things remain: the changes of settings, added up, for a replica that never heard of them, and the markers
that have no answer yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from asr_service.pb.asr.v1.audio_pb2 import AudioEncoding, AudioFormat
from asr_service.pb.asr.v1.stream_pb2 import Audio, ConfigPatch, Marker, Silence, StreamTranscribeRequest

Say = StreamTranscribeRequest

PIECE_BYTES = 32 * 1024
KEPT_S = 120
"""An utterance is decided after 60 s at the latest, so that the server always comes to need less than this."""

_WAITING = 32  # entries ahead of the connection

_SAMPLE_BYTES = {
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: 2,
    AudioEncoding.AUDIO_ENCODING_PCM_F32LE: 4,
    AudioEncoding.AUDIO_ENCODING_MULAW: 1,
    AudioEncoding.AUDIO_ENCODING_ALAW: 1,
}
_ZERO = {AudioEncoding.AUDIO_ENCODING_MULAW: b"\xff", AudioEncoding.AUDIO_ENCODING_ALAW: b"\xd5"}


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Headerless samples. `frame_bytes`: of one sample of every channel."""

    rate_hz: int
    frame_bytes: int
    zero: bytes  # one byte of silence

    @classmethod
    def of(cls, fmt: AudioFormat) -> Self | None:
        """None for a container, and for what the server will refuse."""
        if fmt.encoding not in _SAMPLE_BYTES or fmt.sample_rate_hz <= 0:
            return None
        frame_bytes = _SAMPLE_BYTES[fmt.encoding] * max(1, fmt.channels)
        return cls(fmt.sample_rate_hz, frame_bytes, _ZERO.get(fmt.encoding, b"\0"))

    def silence(self, n_samples: int) -> list[Say]:
        """As many samples of silence, exactly: the milliseconds, and what is left of them as samples."""
        ms = n_samples * 1000 // self.rate_hz
        n_rest = n_samples - self.rate_hz * ms // 1000
        said = [Say(silence=Silence(duration_ms=ms))] if ms else []
        return said + ([Say(audio=Audio(data=self.zero * (n_rest * self.frame_bytes)))] if n_rest else [])


@dataclass(slots=True, eq=False)
class _Entry:
    """A message, the samples before it and in it."""

    message: Say
    at: int
    n_samples: int = 0

    @property
    def end(self) -> int:
        return self.at + self.n_samples


class SentLog:
    """One session's. `raw`: None where nothing can be said again; then nothing is kept."""

    def __init__(self, raw: RawFormat | None) -> None:
        self._raw = raw
        self._entries: deque[_Entry] = deque()
        self._n_sent = 0  # of the entries, from the left
        self._rest = b""  # of a sample that is not complete yet
        self._patch = ConfigPatch()  # all that are gone
        self._markers: list[_Entry] = []  # without an answer
        self.position = 0
        self.durable = 0

    @property
    def n_waiting(self) -> int:
        return len(self._entries) - self._n_sent

    @property
    def is_full(self) -> bool:
        """More audio has to wait until the server needs less of it."""
        return self._raw is not None and self.position - self.durable >= KEPT_S * self._raw.rate_hz

    @property
    def is_ahead(self) -> bool:
        """The connection takes less than is said."""
        return self.n_waiting >= _WAITING

    # What is said

    def pieces(self, audio: bytes) -> Iterator[bytes]:
        """Audio of any length as pieces that fit a message, of whole samples where they are known."""
        frame_bytes = self._raw.frame_bytes if self._raw is not None else 1
        data = self._rest + audio
        n_whole = len(data) - len(data) % frame_bytes
        self._rest = data[n_whole:]
        size = max(1, PIECE_BYTES // frame_bytes) * frame_bytes
        for at in range(0, n_whole, size):
            yield data[at : min(at + size, n_whole)]

    def add_audio(self, piece: bytes) -> None:
        """One of `pieces`."""
        self._add(Say(audio=Audio(data=piece)), len(piece) // self._raw.frame_bytes if self._raw is not None else 0)

    def add_silence(self, ms: int) -> None:
        self._add(Say(silence=Silence(duration_ms=ms)), self._raw.rate_hz * ms // 1000 if self._raw is not None else 0)

    def add_marker(self, id_: str) -> None:
        self._markers.append(self._add(Say(marker=Marker(id=id_))))

    def add(self, message: Say) -> None:
        """Anything else that takes no time."""
        self._add(message)

    def add_end(self, message: Say) -> None:
        """After what is left of a sample, which the server is to complain about."""
        if self._rest:
            self._add(Say(audio=Audio(data=self._rest)))
        self._add(message)

    def _add(self, message: Say, n_samples: int = 0) -> _Entry:
        entry = _Entry(message, self.position, n_samples)
        self._entries.append(entry)
        self.position += n_samples
        return entry

    def take(self) -> Say | None:
        """The next message for the connection; None when all is said."""
        if self.n_waiting == 0:
            return None
        if self._raw is None:
            return self._entries.popleft().message
        entry = self._entries[self._n_sent]
        self._n_sent += 1
        return entry.message

    # What is heard

    def forget(self, durable: int) -> None:
        """Samples before this one are not needed again. What is said at it stays: it may not have been heard."""
        self.durable = max(self.durable, min(durable, self.position))
        while self._n_sent and self._is_over(self._entries[0]):
            entry = self._entries.popleft()
            self._n_sent -= 1
            if entry.message.HasField("patch"):
                self._patch.MergeFrom(entry.message.patch)

    def answered(self, id_: str) -> bool:
        """A marker has its answer; False when all with this id had theirs before."""
        for entry in self._markers:
            if entry.message.marker.id == id_:
                self._markers.remove(entry)
                return True
        return False

    def _is_over(self, entry: _Entry) -> bool:
        return entry.end <= self.durable if entry.n_samples else entry.at < self.durable

    # A connection was lost

    def rewind(self) -> list[Say]:
        """What another connection has to hear first; then `take` brings everything from `durable` on again.

        The empty audio says where that is, so that a server that has more already passes over what it has heard, messages
        without samples included; one that begins there gets all settings and all open questions.
        """
        self._n_sent = len(self._entries)
        self.forget(self.durable)
        self._n_sent = 0
        self._split()
        self._entries = deque(one for one in self._entries if not one.message.HasField("marker") or one in self._markers)
        opening = [Say(audio=Audio(first_sample=self.durable))]
        if self._patch.ListFields():
            opening.append(Say(patch=self._patch))
        return opening + [marker.message for marker in self._markers if marker.at < self.durable]

    def _split(self) -> None:
        """No entry reaches across `durable` after it."""
        if self._raw is None or not self._entries or self._entries[0].at >= self.durable:
            return
        entry = self._entries.popleft()
        n_over = self.durable - entry.at
        if entry.message.HasField("audio"):
            data = entry.message.audio.data[n_over * self._raw.frame_bytes :]
            self._entries.appendleft(_Entry(Say(audio=Audio(data=data)), self.durable, entry.n_samples - n_over))
            return
        end = entry.end
        for message in reversed(self._raw.silence(entry.n_samples - n_over)):
            n_samples = self._n_samples(message)
            end -= n_samples
            self._entries.appendleft(_Entry(message, end, n_samples))

    def _n_samples(self, message: Say) -> int:
        assert self._raw is not None, "what is kept has a format"  # noqa: S101  # narrows the type
        if message.HasField("silence"):
            return self._raw.rate_hz * message.silence.duration_ms // 1000
        return len(message.audio.data) // self._raw.frame_bytes
