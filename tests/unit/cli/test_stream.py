"""The parts of `asr stream`: captions, delays, the speed of audio, the microphone."""

from __future__ import annotations

import sys
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asr_service.cli import live_audio, microphone
from asr_service.cli.captions import Captions
from asr_service.cli.latency import Latency, n_committed
from asr_service.cli.live_audio import AudioClock, NotAudio, decoded, paced
from asr_service.cli.microphone import NoMicrophone, from_microphone
from asr_service.cli.output import UsageError
from asr_service.cli.stream import Wanted
from asr_service.client import StreamTranscribeResponse, Word
from asr_service.pb.asr.v1.stream_pb2 import (
    SPEECH_EVENT_TYPE_END,
    SPEECH_EVENT_TYPE_START,
    Final,
    Partial,
    SessionEnd,
    SessionStarted,
    SpeechEvent,
)
from asr_service.pb.asr.v1.transcript_pb2 import Segment, Usage

Event = StreamTranscribeResponse


def partial(committed: str, tail: str, *words: Word, utterance: int = 0) -> Event:
    return Event(partial=Partial(utterance=utterance, committed=committed, tail=tail, words=words))


def final(text: str, *words: Word, utterance: int = 0) -> Event:
    return Event(final=Final(utterance=utterance, segment=Segment(text=text, words=words)))


def speech(kind: Any, at_ms: int) -> Event:
    return Event(speech=SpeechEvent(type=kind, at_ms=at_ms))


def word(text: str, end_ms: int) -> Word:
    return Word(text=text, start_ms=end_ms - 100, end_ms=end_ms)


# Captions


def shown(events: list[Event], n_cells: int | None) -> str:
    written: list[str] = []
    captions = Captions(written.append, n_cells)
    for event in events:
        captions.feed(event)
    return "".join(written)


def test_on_a_terminal_the_tail_is_dimmed_and_the_final_takes_the_line() -> None:
    text = shown([partial("turn on", " the lie"), final("turn on the light")], 80)

    assert text == "\r\x1b[Kturn on \x1b[2mthe lie\x1b[0m\r\x1b[Kturn on the light\n"


def test_elsewhere_there_are_the_finals_alone() -> None:
    events = [partial("", "turn"), final("turn on"), final(""), final("the light"), Event(end=SessionEnd())]

    assert shown(events, None) == "turn on\nthe light\n"


def test_a_long_line_shows_its_end() -> None:
    text = shown([partial("one two three four", " five six")], 12)

    assert text == "\r\x1b[K…r \x1b[2mfive six\x1b[0m"


def test_another_replica_begins_the_line_anew() -> None:
    assert shown([partial("turn", ""), Event(started=SessionStarted())], 80).endswith("\r\x1b[K")


def test_what_could_move_the_cursor_is_not_written() -> None:
    assert "\x1b[2J" not in shown([partial("a\x1b[2Jb", "\nc")], 80)


# Delays


def test_delays_are_counted_from_the_moment_of_speech() -> None:
    clock = AudioClock()
    clock.began_s = 100.0
    latency = Latency(clock)
    latency.feed(speech(SPEECH_EVENT_TYPE_START, 1000), 101.2)
    latency.feed(partial("", "turn", word("turn", 1300)), 101.5)
    latency.feed(partial("turn", " on", word("turn", 1300), word("on", 1600)), 102.0)
    latency.feed(speech(SPEECH_EVENT_TYPE_END, 2000), 102.5)
    latency.feed(final("turn on", word("turn", 1300), word("on", 1600)), 102.6)
    latency.feed(Event(end=SessionEnd(usage=Usage(audio_ms=2500))), 102.7)

    assert latency.lines() == [
        "first text after the start of speech: median 500 ms, p95 500 ms of 1",
        "words committed after their end: median 850 ms, p95 1000 ms of 2",
        "final after the end of speech: median 600 ms, p95 600 ms of 1",
        "1 utterance in 2.5 s of audio, which took 1.5 s",
    ]


def test_without_a_clock_nothing_is_claimed() -> None:
    latency = Latency(AudioClock())
    latency.feed(speech(SPEECH_EVENT_TYPE_START, 1000), 1.0)
    latency.feed(partial("turn", "", word("turn", 1300)), 2.0)

    assert latency.lines() == ["0 utterances in 0.0 s of audio, which took 1.0 s"]


@pytest.mark.parametrize(
    ("words", "committed", "n"),
    [
        (("turn", "on", "the"), "turn on", 2),
        (("turn", "on"), "", 0),
        (("turn", "on"), "turn o", 1),
        (("你", "好", "吗"), "你好", 2),
    ],
)
def test_committed_words_are_counted_in_every_script(words: tuple[str, ...], committed: str, n: int) -> None:
    assert n_committed([Word(text=text) for text in words], committed) == n


# Speed


class Time:
    """Stands still until somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 50.0
        monkeypatch.setattr(live_audio, "monotonic", lambda: self.now_s)
        monkeypatch.setattr("asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


async def chunks(*sizes: int) -> Any:
    for size in sizes:
        yield bytes(size)


async def test_a_piece_comes_when_its_last_sample_was_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    time, clock = Time(monkeypatch), AudioClock()

    arrivals = [(len(piece), time.now_s) async for piece in paced(chunks(1000, 5400, 1000), 16_000, clock)]

    assert clock.began_s == 50.0
    assert [size for size, _ in arrivals] == [3200, 3200, 1000]
    assert [at_s for _, at_s in arrivals] == pytest.approx([50.1, 50.2, 50.2 + 500 / 16_000])


async def test_a_file_is_decoded_to_what_the_session_takes(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 48_000, 0, "NONE", ""))
        file.writeframes(bytes(4 * 48_000))

    pieces = [piece async for piece in decoded(path)]

    assert sum(map(len, pieces)) == 2 * 16_000


async def test_what_is_no_audio_is_said(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_text("no audio at all" * 100)

    with pytest.raises(NotAudio, match="not audio: "):
        _ = [piece async for piece in decoded(path)]
    with pytest.raises(FileNotFoundError):
        _ = [piece async for piece in decoded(tmp_path / "none.wav")]


# The microphone


class FakeStream:
    def __init__(self, callback: Any, **_: Any) -> None:
        self._callback = callback

    def __enter__(self) -> None:
        self._callback(b"\1\0" * 800, 800, None, None)

    def __exit__(self, *_: object) -> None: ...


async def test_sounddevice_is_used_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(RawInputStream=FakeStream, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)

    audio = from_microphone(16_000)
    block = await anext(audio.chunks)
    await audio.chunks.aclose()

    assert block == b"\1\0" * 800
    assert audio.format is not None
    assert audio.format.sample_rate_hz == 16_000
    assert audio.clock.began_s is not None


@pytest.fixture
def no_sounddevice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH of its own, empty."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


async def test_without_it_the_system_records(no_sounddevice: Path) -> None:
    recorder = no_sounddevice / "arecord"
    recorder.write_text('#!/bin/sh\nprintf "%s" "$*"\n')
    recorder.chmod(0o755)

    chunks = from_microphone(8000).chunks
    heard = await anext(chunks)

    assert heard == b"-q -t raw -f S16_LE -c 1 -r 8000"
    with pytest.raises(OSError, match="arecord ended with exit code 0"):
        await anext(chunks)


def test_without_either_it_is_said_what_to_install(no_sounddevice: Path) -> None:
    with pytest.raises(NoMicrophone, match=r"pip install -e '\.\[mic\]'"):
        from_microphone(16_000)

    assert microphone._recorder(16_000) is None


# Usage


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": None}, "one of FILE"),
        ({"mic": True}, "one of FILE"),
        ({"file": None, "mic": True, "at_own_speed": True}, "--realtime"),
        ({"rate_hz": 8000}, "--rate"),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"file": "a.wav", "mic": False, "at_own_speed": False, "rate_hz": None}
    with pytest.raises(UsageError, match=said):
        Wanted.of(**(given | changes), as_json=False, language=None, context="")
