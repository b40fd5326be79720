"""What is said again after a lost connection, against the server's own way of taking it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr_service.audio.raw_stream import RawStream
from asr_service.audio.source import Encoding
from asr_service.client.sent_log import KEPT_S, RawFormat, SentLog
from asr_service.live.intake import RawIntake
from asr_service.pb.asr.v1.audio_pb2 import AudioEncoding, AudioFormat
from asr_service.pb.asr.v1.stream_pb2 import ConfigPatch, Finish, Flush, StreamTranscribeRequest

S16 = AudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16000)
FLUSH = StreamTranscribeRequest(flush=Flush())
FINISH = StreamTranscribeRequest(finish=Finish())


def raw_log() -> SentLog:
    return SentLog(RawFormat.of(S16))


def say(log: SentLog, audio: bytes) -> None:
    for piece in log.pieces(audio):
        log.add_audio(piece)


class Ear:
    """Collects what a replica hears, and where."""

    n_waiting = 0

    def __init__(self) -> None:
        self.samples: list[float] = []

    def push(self, samples: NDArray[np.float32]) -> None:
        self.samples += samples.tolist()

    def after(self, act: Callable[[], None]) -> None:
        act()

    def close(self) -> None: ...


class Replica:
    """Takes messages as LiveSession does; notes what took effect at which sample of the session."""

    def __init__(self, first_sample: int = 0, *, is_resumed: bool = False) -> None:
        self.first_sample = first_sample
        self.ear = Ear()
        self.intake = RawIntake(RawStream(Encoding.PCM_S16LE, 16000, 1, first_sample), self.ear, is_resumed=is_resumed)
        self.acts: list[tuple[int, str]] = []

    @property
    def position(self) -> int:
        return self.first_sample + len(self.ear.samples)

    def hear(self, message: StreamTranscribeRequest) -> None:
        match message.WhichOneof("message"):
            case "audio":
                audio = message.audio
                self.intake.audio(audio.data, audio.first_sample if audio.HasField("first_sample") else None)
            case "silence":
                self.intake.silence(message.silence.duration_ms)
            case "marker":
                self._act(f"marker {message.marker.id}")
            case "patch":
                self._act(f"patch {message.patch.language}")
            case kind:
                self._act(str(kind))

    def _act(self, what: str) -> None:
        if not self.intake.is_replaying:
            self.acts.append((self.position, what))


def test_what_was_taken_is_said_again_from_what_is_durable_on() -> None:
    log = raw_log()
    say(log, bytes(range(200)))
    log.add(FLUSH)
    say(log, bytes(100))
    while log.take():
        pass
    log.forget(60)

    opening = log.rewind()

    assert [(m.audio.first_sample, m.audio.data) for m in opening] == [(60, b"")]
    assert [m.WhichOneof("message") for m in iter(log.take, None)] == ["audio", "flush", "audio"]
    assert log.durable == 60


def test_samples_are_never_divided() -> None:
    log = raw_log()
    say(log, b"abc")
    say(log, b"de")
    log.add_end(FINISH)

    assert [m.audio.data for m in iter(log.take, None)] == [b"ab", b"cd", b"e", b""]


def test_a_container_goes_out_as_it_is_and_nothing_is_kept() -> None:
    log = SentLog(RawFormat.of(AudioFormat()))
    say(log, b"abc")

    assert [m.audio.data for m in iter(log.take, None)] == [b"abc"]
    assert log.take() is None
    assert not log.is_full


def test_the_log_is_full_until_the_server_needs_less() -> None:
    log = raw_log()
    for _ in range(KEPT_S // 60):
        assert not log.is_full
        log.add_silence(60_000)
    assert log.is_full

    while log.take():
        pass
    log.forget(16_000)

    assert not log.is_full


def test_settings_and_open_questions_outlive_the_audio_they_came_with() -> None:
    log = raw_log()
    log.add(StreamTranscribeRequest(patch=ConfigPatch(language="de")))
    log.add(StreamTranscribeRequest(patch=ConfigPatch(context="tea")))
    log.add_marker("a")
    log.add_marker("b")
    say(log, bytes(3200))
    while log.take():
        pass
    assert log.answered("a")
    assert not log.answered("a")
    log.forget(1600)

    position, patch, marker = log.rewind()

    assert position.audio.first_sample == 1600
    assert (patch.patch.language, patch.patch.context) == ("de", "tea")
    assert marker.marker.id == "b"


def test_an_answered_marker_is_not_asked_again() -> None:
    log = raw_log()
    log.add_marker("a")
    assert log.take() is not None
    log.answered("a")

    log.rewind()

    assert log.take() is None


def test_silence_is_divided_to_the_sample() -> None:
    raw = RawFormat.of(AudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_MULAW, sample_rate_hz=44_100, channels=2))
    assert raw is not None

    silence, rest = raw.silence(100_003)

    assert 44_100 * silence.silence.duration_ms // 1000 + len(rest.audio.data) // 2 == 100_003
    assert set(rest.audio.data) == {0xFF}


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """What the client says, and what happens to it meanwhile."""
    step = st.one_of(
        st.tuples(st.just("audio"), st.integers(1, 900)),
        st.tuples(st.just("silence"), st.integers(1, 40)),
        st.tuples(st.sampled_from(("flush", "marker", "patch")), st.none()),
        st.tuples(st.just("arrive"), st.integers(1, 6)),
        st.tuples(st.just("ack"), st.floats(0, 1)),
        st.tuples(st.sampled_from(("here", "elsewhere")), st.none()),
    )
    return draw(st.lists(step, max_size=40))


class Story:
    """Client and replicas. `heard[i]` is sample i of the session as whoever has it last heard it."""

    def __init__(self) -> None:
        self.log = raw_log()
        self.replica = Replica()
        self.said: list[float] = []
        self.said_acts: list[tuple[int, str]] = []
        self.heard: list[float] = []
        self.acts: list[tuple[int, str]] = []

    def play(self, kind: str, value: Any) -> None:
        getattr(self, f"_{kind}", lambda _: self._control(kind))(value)

    def end(self) -> None:
        self.log.add_end(FINISH)
        while self._arrive_one():
            pass
        self._keep()

    def _audio(self, n_bytes: int) -> None:
        at = sum(1 for sample in self.said if sample)
        data = (np.arange(at, at + n_bytes // 2) % 30_000 + 1).astype("<i2")
        self.said += (data.astype(np.float32) / 32768).tolist()
        say(self.log, data.tobytes())

    def _silence(self, ms: int) -> None:
        self.said += [0.0] * (16 * ms)
        self.log.add_silence(ms)

    def _control(self, kind: str) -> None:
        name = f"{kind} {len(self.said_acts)}" if kind != "flush" else kind
        self.said_acts.append((len(self.said), name))
        if kind == "marker":
            self.log.add_marker(name.split()[1])
        elif kind == "patch":
            self.log.add(StreamTranscribeRequest(patch=ConfigPatch(language=name.split()[1])))
        else:
            self.log.add(FLUSH)

    def _arrive(self, n: int) -> None:
        for _ in range(n):
            self._arrive_one()

    def _arrive_one(self) -> bool:
        message = self.log.take()
        if message is not None:
            self.replica.hear(message)
        return message is not None

    def _ack(self, share: float) -> None:
        self.log.forget(int(share * self.replica.position))

    def _here(self, _: None) -> None:
        self.replica.intake.resumed()
        for message in self.log.rewind():
            self.replica.hear(message)

    def _elsewhere(self, _: None) -> None:
        self._keep()
        opening = self.log.rewind()
        self.replica = Replica(self.log.durable, is_resumed=True)
        for message in opening:
            self.replica.hear(message)

    def _keep(self) -> None:
        first = self.replica.first_sample
        self.heard = self.heard[:first] + self.replica.ear.samples
        self.acts = [act for act in self.acts if act[0] < first] + self.replica.acts


@settings(max_examples=300, deadline=None)
@given(stories())
def test_whatever_is_lost_every_sample_is_heard_once_and_every_control_in_its_place(steps: list[tuple[str, Any]]) -> None:
    story = Story()
    for kind, value in steps:
        story.play(kind, value)
    story.end()

    assert story.heard == story.said
    # Where nothing came in between, a control may be heard twice.
    said = list(dict.fromkeys([*story.said_acts, (len(story.said), "finish")]))
    in_place = list(dict.fromkeys(act for act in story.acts if act in said))
    assert in_place == [act for act in said if act in in_place]
    # A new replica hears the changes of settings added up, and open questions anew.
    missing = [what for _, what in said if (_, what) not in in_place]
    asked_later = [what for _, what in story.acts if what.startswith("marker")]
    assert [what for what in missing if not what.startswith("patch") and what not in asked_later] == []


@given(stories())
def test_a_new_replica_has_the_newest_settings(steps: list[tuple[str, Any]]) -> None:
    story = Story()
    for kind, value in steps:
        story.play(kind, value)
    story.play("elsewhere", None)
    story.end()

    patches = [what for _, what in story.said_acts if what.startswith("patch")]
    assert [what for _, what in story.replica.acts if what.startswith("patch")][-1:] == patches[-1:]
