"""StreamTranscribe over real gRPC: what is said in one connection, and what is heard."""

from __future__ import annotations

import asyncio
from typing import Any

import av
import grpc
import numpy as np
import pytest

from asr_service.pb.asr.v1 import audio_pb2, stream_pb2, transcript_pb2
from asr_service.pb.asr.v1.info_pb2 import GetServerInfoRequest
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeResponse as Hear
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeRequest
from tests.wire.conftest import Served, served, speech
from tests.wire.talking import (
    FINISH,
    FLUSH,
    Talk,
    audio,
    audio_pieces,
    config,
    marker,
    quiet,
    sample_pcm,
    silence_of,
    talk,
)
from tests.wire.test_transcribe import reason_of

_OFF = stream_pb2.Endpointing(mode=stream_pb2.ENDPOINT_MODE_OFF)


def check(events: list[Hear], first_seq: int = 0) -> None:
    """The invariants of a session's events."""
    assert [event.seq for event in events] == list(range(first_seq, first_seq + len(events)))
    committed: dict[int, str] = {}
    finals: list[int] = []
    received = decoded = done = 0
    for event in events:
        cursors, kind = event.cursors, event.WhichOneof("event")
        if kind == "started":  # of another replica: what was not decided is said again
            committed.clear()
            received = decoded = done = 0
        assert cursors.received_ms >= cursors.decoded_ms >= cursors.committed_ms
        assert (cursors.received_ms, cursors.decoded_ms, cursors.committed_ms) >= (received, decoded, done)
        received, decoded, done = cursors.received_ms, cursors.decoded_ms, cursors.committed_ms
        if kind == "partial":
            number = event.partial.utterance
            assert number not in finals
            assert committed.get(number, "") + event.partial.committed_delta == event.partial.committed
            committed[number] = event.partial.committed
        elif kind == "final":
            finals.append(event.final.utterance)
            is_continued = event.final.segment.text.startswith(committed.get(event.final.utterance, ""))
            assert event.final.revised is not is_continued
    assert len(set(finals)) == len(finals)
    assert events[-1].WhichOneof("event") in ("end", "error")


async def test_a_session_from_its_first_word_to_its_end(service: Served) -> None:
    messages = [config(), *audio_pieces(quiet(300) + sample_pcm() + quiet(1000)), marker("m1"), FINISH]
    heard = await talk(service, messages, metadata=(("x-session-id", "my-session"),))

    check(heard.events)
    assert heard.error is None
    assert heard.kinds[0] == "started"
    assert heard.kinds[-3:] == ["final", "marker_ack", "end"]
    assert len(heard.of("partial")) >= 2
    assert [final.utterance for final in heard.of("final")] == [0]
    assert heard.texts[0].startswith("one two three")
    assert heard.of("end")[0].reason == stream_pb2.SESSION_END_REASON_FINISHED
    usage = heard.of("end")[0].usage
    assert usage.audio_ms == pytest.approx(1300 + len(sample_pcm()) / 32, abs=2)
    assert {event.session_id for event in heard.events} == {"my-session"}
    started = heard.of("started")[0]
    assert started.effective_config.endpointing.silence_ms == 500
    assert started.effective_config.partials.interval_ms == 500
    assert started.engine.name == "fake"
    assert started.resume_token == ""
    assert started.limits.max_utterance_ms == 60_000
    assert not heard.of("warning")


async def test_a_session_of_its_own_choosing_gets_an_id(service: Served) -> None:
    heard = await talk(service, [config(), FINISH])
    headers = dict(await heard.call.initial_metadata())

    assert headers["x-session-id"] == heard.events[0].session_id
    assert len(heard.events[0].session_id) == 36
    assert heard.kinds == ["started", "end"]


def _encoded(encoding: int, rate_hz: int, channels: int) -> tuple[bytes, audio_pb2.AudioFormat]:
    samples = np.frombuffer(quiet(300) + sample_pcm() + quiet(1000), "<i2").astype(np.float32) / 32768
    resampler = av.AudioResampler("flt", "mono", rate_hz)
    frame = av.AudioFrame.from_ndarray(samples[None, :], "flt", "mono")
    frame.sample_rate = 16000
    out = np.concatenate([f.to_ndarray()[0] for f in [*resampler.resample(frame), *resampler.resample(None)]])
    out = np.repeat(out, channels)
    fmt = audio_pb2.AudioFormat(encoding=encoding, sample_rate_hz=rate_hz, channels=channels)  # type: ignore[arg-type]
    if encoding == audio_pb2.AUDIO_ENCODING_PCM_F32LE:
        return out.astype("<f4").tobytes(), fmt
    return (out.clip(-1, 1) * 32767).astype("<i2").tobytes(), fmt


@pytest.mark.parametrize("size", [777, 3201, 32_000, 1_000_000])
async def test_the_finals_do_not_depend_on_how_the_audio_is_divided(service: Served, size: int) -> None:
    data = quiet(300) + sample_pcm() + quiet(900) + sample_pcm() + quiet(200)
    heard = await talk(service, [config(), *audio_pieces(data, size), FINISH])

    check(heard.events)
    spans = [(final.segment.start_ms, final.segment.end_ms) for final in heard.of("final")]
    assert spans == [(180, 6216), (6900, 12936)]


@pytest.mark.parametrize(
    ("encoding", "rate_hz", "channels"),
    [
        (audio_pb2.AUDIO_ENCODING_PCM_F32LE, 48_000, 2),
        (audio_pb2.AUDIO_ENCODING_PCM_S16LE, 8_000, 1),
        (audio_pb2.AUDIO_ENCODING_PCM_S16LE, 44_100, 1),
    ],
)
async def test_any_raw_format_gives_about_the_same(service: Served, encoding: int, rate_hz: int, channels: int) -> None:
    data, fmt = _encoded(encoding, rate_hz, channels)
    heard = await talk(service, [config(format=fmt), *audio_pieces(data, 5001), FINISH])

    check(heard.events)
    [final] = heard.of("final")
    assert final.segment.start_ms == pytest.approx(180, abs=70)
    assert final.segment.end_ms == pytest.approx(6216, abs=70)


async def test_the_words_of_a_container_are_heard_too(service: Served) -> None:
    heard = await talk(service, [Say(config=stream_pb2.SessionConfig()), *audio_pieces(speech(), 1000), FINISH])

    check(heard.events)
    assert heard.error is None
    assert len(heard.of("final")) == 1


async def test_minutes_of_silence_reach_no_recogniser(service: Served) -> None:
    heard = await talk(service, [config(), *(silence_of(60_000) for _ in range(5)), *audio_pieces(quiet(5000)), FINISH])

    check(heard.events)
    assert set(heard.kinds) <= {"started", "end"}
    assert service.running.engine.calls == 0
    assert heard.of("end")[0].usage.audio_ms == 305_000


async def test_a_flush_gives_the_final_now(service: Served) -> None:
    heard = Talk(service)
    await heard.say(config(endpointing=stream_pb2.Endpointing(mode=stream_pb2.ENDPOINT_MODE_EXTERNAL)))
    await heard.say(*audio_pieces(sample_pcm()[:64_000]), FLUSH)
    first = await heard.hear("final")
    await heard.say(*audio_pieces(sample_pcm()[64_000:]), FLUSH)
    second = await heard.hear("final")
    await heard.say(FINISH)
    await heard.rest()

    check(heard.events)
    assert (first.final.utterance, second.final.utterance) == (0, 1)
    assert second.final.segment.start_ms >= first.final.segment.end_ms - 1


async def test_without_an_endpointer_everything_is_one_utterance(service: Served) -> None:
    heard = await talk(service, [config(endpointing=_OFF), *audio_pieces(quiet(1000) + sample_pcm()), FINISH])

    check(heard.events)
    [final] = heard.of("final")
    assert (final.segment.start_ms, final.segment.end_ms) == (0, 1000 + len(sample_pcm()) // 32)


async def test_a_patch_changes_the_language_from_the_next_utterance_on(service: Served) -> None:
    heard = Talk(service)
    await heard.say(config(), *audio_pieces(sample_pcm() + quiet(1000)))
    await heard.hear("final")
    await heard.say(Say(patch=stream_pb2.ConfigPatch(language="de")), *audio_pieces(sample_pcm() + quiet(1000)), FINISH)
    await heard.rest()

    check(heard.events)
    assert [final.segment.language.code for final in heard.of("final")] == ["en", "de"]


async def test_partials_can_be_switched_off(service: Served) -> None:
    partials = stream_pb2.Partials(enabled=False)
    heard = await talk(service, [config(partials=partials), *audio_pieces(sample_pcm()), FINISH])

    assert heard.of("partial") == []
    assert len(heard.of("final")) == 1
    assert service.running.engine.calls <= 2


async def test_words_come_with_partials_and_finals_where_wanted(service: Served) -> None:
    recognition = transcript_pb2.RecognitionConfig(word_times=True)
    heard = await talk(service, [config(recognition=recognition), *audio_pieces(sample_pcm()), FINISH])

    assert heard.of("partial")[-1].words[0].text == "one"
    assert heard.of("final")[0].segment.words[0].start_ms == heard.of("final")[0].segment.start_ms


async def test_what_has_no_effect_is_said(service: Served) -> None:
    recognition = transcript_pb2.RecognitionConfig(voice_activity=audio_pb2.VoiceActivity(), extensions={"x": "y"})
    heard = await talk(service, [config(recognition=recognition), *audio_pieces(quiet(100) + b"\0"), FINISH])

    assert sorted(warning.field for warning in heard.of("warning")) == [
        "audio",
        "config.recognition.extensions.x",
        "config.recognition.voice_activity",
    ]


@pytest.mark.parametrize("field", ["start_timeout_ms", "idle_timeout_ms"])
async def test_silence_for_too_long_ends_the_session_well(service: Served, field: str) -> None:
    heard = Talk(service)
    limits: dict[str, Any] = {field: 1000}
    await heard.say(config(endpointing=stream_pb2.Endpointing(**limits)), *audio_pieces(quiet(2000)))
    await heard.rest()

    check(heard.events)
    assert heard.error is None
    assert heard.of("speech")[0].type == stream_pb2.SPEECH_EVENT_TYPE_TIMEOUT
    reason = {"start_timeout_ms": "START", "idle_timeout_ms": "IDLE"}[field]
    assert heard.of("end")[0].reason == stream_pb2.SessionEndReason.Value(f"SESSION_END_REASON_{reason}_TIMEOUT")


async def test_no_audio_at_all_is_silence_too(service: Served) -> None:
    heard = Talk(service)
    await heard.say(config(endpointing=stream_pb2.Endpointing(idle_timeout_ms=100)))
    await heard.rest()

    assert heard.of("end")[0].reason == stream_pb2.SESSION_END_REASON_IDLE_TIMEOUT


_BAD_MESSAGES: list[tuple[list[Say], str, str]] = [
    ([audio(b"\0\0")], "MESSAGE_ORDER", "messages[0].audio"),
    ([config(), config()], "MESSAGE_ORDER", "messages[1].config"),
    ([config(), Say()], "MESSAGE_ORDER", "messages[1]"),
    ([config(), silence_of(0)], "INVALID_VALUE", "messages[1].silence.duration_ms"),
    ([config(), marker("m" * 129)], "INVALID_VALUE", "messages[1].marker.id"),
    ([config(resume_window_ms=-1)], "INVALID_VALUE", "messages[0].config.resume_window_ms"),
    ([config(endpointing=stream_pb2.Endpointing(silence_ms=5))], "INVALID_VALUE", "messages[0].config.endpointing.silence_ms"),
    ([config(partials=stream_pb2.Partials(interval_ms=5))], "INVALID_VALUE", "messages[0].config.partials.interval_ms"),
    (
        [config(format=audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_MULAW))],
        "INVALID_VALUE",
        "messages[0].config.format.sample_rate_hz",
    ),
    (
        [config(recognition=transcript_pb2.RecognitionConfig(temperature=2.0))],
        "INVALID_VALUE",
        "messages[0].config.recognition.temperature",
    ),
    (
        [config(), Say(patch=stream_pb2.ConfigPatch(endpointing=_OFF))],
        "INVALID_VALUE",
        "messages[1].patch.endpointing.mode",
    ),
    ([Say(config=stream_pb2.SessionConfig()), audio(b"x", first_sample=1)], "INVALID_VALUE", "messages[1].audio.first_sample"),
]


@pytest.mark.parametrize(("messages", "reason", "field"), _BAD_MESSAGES)
async def test_a_bad_message_is_named(service: Served, messages: list[Say], reason: str, field: str) -> None:
    heard = Talk(service)
    await heard.say(*messages)
    await heard.rest()

    assert heard.error is not None
    assert heard.error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(heard.error) == reason
    if heard.events:
        check(heard.events)
        [violation] = heard.of("error")[0].field_violations
        assert violation.field == field
        assert heard.of("error")[0].reason == reason


async def test_nothing_may_come_after_finish() -> None:
    async with served() as service:
        service.controls.hold()
        heard = Talk(service)
        await heard.say(config(), audio(sample_pcm()), FINISH, FLUSH)
        await heard.rest()

        check(heard.events)
        assert heard.of("error")[0].field_violations[0].field == "messages[3].flush"


async def test_a_client_that_stops_without_finish_is_told_and_nothing_is_decided(service: Served) -> None:
    heard = await talk(service, [config(partials=stream_pb2.Partials(enabled=False)), *audio_pieces(sample_pcm()[:96_000])])

    check(heard.events)
    assert heard.error is not None
    assert reason_of(heard.error) == "MESSAGE_ORDER"
    assert heard.of("final") == []
    assert service.running.engine.calls == 0


async def test_a_client_that_vanishes_costs_no_decision() -> None:
    async with served() as service:
        service.controls.hold()
        heard = Talk(service)
        await heard.say(config(), *audio_pieces(sample_pcm()[:64_000]))
        await heard.hear("speech")
        await service.controls.wait_running(1)
        heard.call.cancel()
        await service.controls.wait_running(0)
        n_calls = service.running.engine.calls
        service.controls.release()
        await talk(service, [config(), *audio_pieces(quiet(500)), FINISH])

        assert service.running.engine.calls == n_calls


async def test_at_the_deadline_what_is_known_comes_out_where_wanted() -> None:
    async with served() as service:
        heard = Talk(service, timeout=2.0)
        await heard.say(config(partial_on_deadline=True), *audio_pieces(sample_pcm()))
        await heard.hear("partial")
        service.controls.hold()
        await heard.rest()

        check(heard.events)
        assert heard.error is None
        assert heard.of("end")[0].reason == stream_pb2.SESSION_END_REASON_DEADLINE
        assert transcript_pb2.QUALITY_FLAG_TRUNCATED in heard.of("final")[0].segment.quality_flags


async def test_sessions_count_as_requests() -> None:
    async with served(max_requests=1) as service:
        first = Talk(service)
        await first.say(config())
        await first.hear("started")
        second = await talk(service, [config(), FINISH])
        await first.say(FINISH)
        await first.rest()

        assert second.error is not None
        assert reason_of(second.error) == "OVERLOADED"
        assert first.kinds == ["started", "end"]


async def test_sessions_at_once_keep_apart(service: Served) -> None:
    data = quiet(300) + sample_pcm() + quiet(1000)
    languages = ["de", "fr", "en", "es", "ja", "ko"]
    sessions = await asyncio.gather(
        *(
            talk(
                service,
                [
                    config(recognition=transcript_pb2.RecognitionConfig(language=language)),
                    *audio_pieces(data, 1600 + 160 * index),
                    FINISH,
                ],
            )
            for index, language in enumerate(languages)
        )
    )

    for language, heard in zip(languages, sessions, strict=True):
        check(heard.events)
        assert [(final.segment.language.code, final.segment.start_ms) for final in heard.of("final")] == [(language, 180)]


async def test_the_server_says_that_it_streams(service: Served) -> None:
    info = await service.stub.GetServerInfo(GetServerInfoRequest())

    assert {feature.name: feature.available for feature in info.features}["stream_transcribe"]


async def test_a_recogniser_that_crashes_costs_time_and_no_words(service: Served) -> None:
    plan: list[Any] = [None, "crash", None, "crash", "crash"]
    service.controls.plan = plan
    data = quiet(300) + sample_pcm() + quiet(1000)
    heard = await talk(service, [config(), *audio_pieces(data), FINISH])

    check(heard.events)
    assert heard.error is None
    assert len(heard.of("final")) == 1


async def test_a_recogniser_that_cannot_decide_fails_the_session(service: Served) -> None:
    service.controls.plan = ["error"] * 20
    heard = await talk(service, [config(), *audio_pieces(sample_pcm() + quiet(1000)), FINISH])

    check(heard.events)
    assert heard.error is not None
    assert heard.error.code() is grpc.StatusCode.INTERNAL
    assert heard.of("error")[0].reason == "INTERNAL"


@pytest.mark.parametrize("kind", ["white", "hum", "clicks"])
async def test_minutes_of_noise_reach_no_recogniser(service: Served, kind: str) -> None:
    rng = np.random.default_rng(3)
    n = 90 * 16000
    noise = {
        "white": rng.normal(0, 0.02, n),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * np.arange(n) / 16000) + 0.03 * np.sin(2 * np.pi * 100 * np.arange(n) / 16000),
        "clicks": np.where(rng.random(n) < 1e-4, 0.8, 0.0),
    }[kind]
    heard = await talk(service, [config(), *audio_pieces((noise * 32767).astype("<i2").tobytes(), 32_000), FINISH])

    check(heard.events)
    assert heard.kinds == ["started", "end"]
    assert service.running.engine.calls == 0


async def test_live_speech_and_recordings_wait_in_one_queue() -> None:
    async with served(slots=1) as service:
        live = [talk(service, [config(), *audio_pieces(sample_pcm() + quiet(800)), FINISH]) for _ in range(4)]
        short = [service.stub.Transcribe(TranscribeRequest(audio=speech())) for _ in range(4)]
        sessions = await asyncio.gather(*live)
        answers = [await call for call in short]

    assert [len(heard.of("final")) for heard in sessions] == [1] * 4
    assert all(answer.transcript.text for answer in answers)
