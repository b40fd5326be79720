"""Live sessions whose connection is lost: resumed at the same replica, at another one, or not at all."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from asr_service.pb.asr.v1 import stream_pb2
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from tests.wire.conftest import Served, served
from tests.wire.talking import FINISH, Talk, audio, audio_pieces, config, marker, quiet, sample_pcm, talk
from tests.wire.test_stream import check
from tests.wire.test_transcribe import reason_of

_SAMPLES = 3200  # of a piece
_WINDOW_MS = 60_000


def _data() -> bytes:
    return quiet(300) + sample_pcm() + quiet(900) + sample_pcm() + quiet(900)


def _pieces(data: bytes, first: int) -> list[Say]:
    """From that sample on, each with its place."""
    return [audio(data[2 * at : 2 * (at + _SAMPLES)], at) for at in range(first, len(data) // 2, _SAMPLES)]


def _resume(token: str, heard: Talk) -> Say:
    acks = heard.of("ack")
    return Say(
        resume=stream_pb2.Resume(
            resume_token=token,
            last_seq=heard.events[-1].seq,
            durable_samples=acks[-1].durable_samples if acks else 0,
            utterances=len(heard.of("final")),
        )
    )


def _count(service: Served, state: str) -> float:
    return service.running.metrics.registry.get_sample_value("asr_live_sessions", {"state": state}) or 0.0


async def _until(service: Served, state: str, n: int) -> None:
    """Waits until the server has noticed."""
    async with asyncio.timeout(10):
        while _count(service, state) != n:  # noqa: ASYNC110  # a gauge cannot be awaited
            await asyncio.sleep(0.002)


def _spans(*talks: Talk) -> list[tuple[int, int, int, str]]:
    finals = [final for heard in talks for final in heard.of("final")]
    return [(f.utterance, f.segment.start_ms, f.segment.end_ms, f.segment.text) for f in finals]


@pytest.mark.parametrize("seed", range(6))
async def test_a_lost_connection_loses_no_word_and_repeats_none(service: Served, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    data = _data()
    whole = await talk(service, [config(), *audio_pieces(data), FINISH])
    pieces = _pieces(data, 0)
    n_sent = rng.randint(1, len(pieces))

    first = Talk(service)
    await first.say(config(resume_window_ms=_WINDOW_MS))
    token = (await first.hear("started")).started.resume_token
    await first.say(*pieces[:n_sent])
    if n_sent > 20:  # two seconds, more than one of which is speech
        await first.hear("partial")
    first.call.cancel()
    await _until(service, "detached", 1)
    second = Talk(service)
    await second.say(_resume(token, first))
    durable = first.of("ack")[-1].durable_samples if first.of("ack") else 0
    await second.say(*_pieces(data, durable), FINISH)
    await second.rest()

    assert second.error is None
    check(first.events + second.events)
    assert _spans(first, second) == _spans(whole)


@pytest.mark.parametrize("seed", range(4))
async def test_another_replica_goes_on_from_what_is_durable(service: Served, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    data = _data()
    whole = await talk(service, [config(), *audio_pieces(data), FINISH])
    async with served() as replica:
        first = Talk(service)
        await first.say(config(resume_window_ms=_WINDOW_MS))
        token = (await first.hear("started")).started.resume_token
        await first.say(*_pieces(data, 0)[: rng.randint(40, 60)])
        await first.hear("final")
        await first.hear("ack")
        first.call.cancel()

        second = Talk(replica)
        await second.say(_resume(token, first))
        await second.say(*_pieces(data, first.of("ack")[-1].durable_samples), marker("m"), FINISH)
        await second.rest()

    assert second.error is None
    check(first.events + second.events)
    # Its detector has not heard what was before, and its frames lie elsewhere: the edges may move by a few.
    for found, expected in zip(_spans(first, second), _spans(whole), strict=True):
        assert found[0] == expected[0]
        assert found[1:3] == pytest.approx(expected[1:3], abs=100)
        assert found[3] == expected[3]
    assert second.of("started")[0].resume_token != token
    assert second.events[-1].cursors.received_ms == len(data) // 32


async def test_a_second_connection_takes_the_session_from_the_first(service: Served) -> None:
    first = Talk(service)
    await first.say(config(resume_window_ms=_WINDOW_MS))
    token = (await first.hear("started")).started.resume_token
    second = Talk(service)
    await second.say(_resume(token, first), audio(quiet(100), 0), FINISH)
    await second.rest()
    await first.rest()

    assert first.error is not None
    assert first.error.code() is grpc.StatusCode.ABORTED
    assert reason_of(first.error) == "SESSION_TAKEN"
    assert second.kinds == ["end"]


async def test_what_cannot_be_gone_on_with_is_said(service: Served) -> None:
    first = Talk(service)
    await first.say(config(resume_window_ms=_WINDOW_MS))
    token = (await first.hear("started")).started.resume_token
    await first.say(audio(quiet(1000), 0), FINISH)
    await first.rest()

    for resume in (
        stream_pb2.Resume(resume_token=token, last_seq=first.events[-1].seq),  # it has ended
        stream_pb2.Resume(resume_token="nonsense"),
    ):
        heard = await talk(service, [Say(resume=resume)])
        assert heard.error is not None
        assert heard.error.code() is grpc.StatusCode.OUT_OF_RANGE
        assert reason_of(heard.error) == "RESUME_WINDOW_GONE"


async def test_a_window_that_is_over_is_over(service: Served) -> None:
    first = Talk(service)
    await first.say(config(resume_window_ms=1))
    token = (await first.hear("started")).started.resume_token
    first.call.cancel()
    await _until(service, "attached", 0)
    await _until(service, "detached", 0)
    heard = await talk(service, [_resume(token, first)])

    assert heard.error is not None
    assert reason_of(heard.error) == "RESUME_WINDOW_GONE"


async def test_audio_that_begins_too_late_leaves_a_gap(service: Served) -> None:
    first = Talk(service)
    await first.say(config(resume_window_ms=_WINDOW_MS), audio(quiet(1000), 0))
    token = (await first.hear("started")).started.resume_token
    first.call.cancel()
    await _until(service, "detached", 1)
    second = Talk(service)
    await second.say(_resume(token, first), audio(quiet(1000), 16_001))
    await second.rest()

    assert second.error is not None
    assert reason_of(second.error) == "RESUME_WINDOW_GONE"
    assert "a gap of 1 samples" in str(second.error.details())


async def test_the_first_audio_after_resume_says_where_it_is(service: Served) -> None:
    first = Talk(service)
    await first.say(config(resume_window_ms=_WINDOW_MS))
    token = (await first.hear("started")).started.resume_token
    first.call.cancel()
    await _until(service, "detached", 1)
    second = Talk(service)
    await second.say(_resume(token, first), audio(quiet(100)))
    await second.rest()

    assert second.error is not None
    assert "messages[1].audio.first_sample" in [v.field for v in second.of("error")[0].field_violations]


async def test_no_more_sessions_wait_than_may() -> None:
    async with served(max_resumable_sessions=1) as service:
        talks = [Talk(service) for _ in range(3)]
        tokens = []
        for heard in talks:
            await heard.say(config(resume_window_ms=_WINDOW_MS))
            tokens.append((await heard.hear("started")).started.resume_token)
        for heard in talks:
            heard.call.cancel()
        await _until(service, "attached", 0)

        assert _count(service, "detached") == 1


async def test_a_service_that_closes_says_so_and_lets_the_words_out() -> None:
    async with served(drain_timeout=1.0) as service:
        heard = Talk(service)
        await heard.say(config(resume_window_ms=_WINDOW_MS), *audio_pieces(sample_pcm()))
        await heard.hear("partial")
        draining = asyncio.ensure_future(service.running.drain())
        goaway = await heard.hear("go_away")
        await heard.rest()
        await draining

        check(heard.events)
        assert heard.error is None
        assert goaway.go_away.resume_token
        assert len(heard.of("final")) == 1
        assert heard.of("end")[0].reason == stream_pb2.SESSION_END_REASON_GO_AWAY
