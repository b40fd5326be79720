"""What a live session promises when something goes wrong around it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from asr_service.pb.asr.v1 import stream_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from tests.wire.conftest import Served, served, speech
from tests.wire.talking import FINISH, Talk, audio_pieces, config, marker, quiet, sample_pcm, talk
from tests.wire.test_stream import check
from tests.wire.test_transcribe import reason_of


async def none_left(service: Served) -> None:
    """Waits until the server has no live session."""
    registry = service.running.metrics.registry
    async with asyncio.timeout(20):
        for state in ("attached", "detached"):
            while registry.get_sample_value("asr_live_sessions", {"state": state}) != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


async def test_a_client_that_does_not_read_is_ended_and_holds_nobody_up() -> None:
    async with served(upload_idle_timeout=0.3) as service:
        # Without the probe the transport takes in 64 KiB for a client that does not read, not megabytes.
        async with grpc.aio.insecure_channel(service.running.address, options=[("grpc.http2.bdp_probe", 0)]) as channel:
            stub: Any = AsrServiceStub(channel)
            deaf = Talk(replace(service, stub=stub))
            await deaf.say(config(), *(marker(f"{index:0128}") for index in range(1000)))
            await none_left(service)
            other = await talk(service, [config(), *audio_pieces(sample_pcm() + quiet(1000)), FINISH])
            await deaf.rest()

        assert len(other.of("final")) == 1
        assert deaf.error is not None
        assert reason_of(deaf.error) == "SLOW_CONSUMER"


@pytest.mark.parametrize("failpoint", ["decode.source=crash*1", "decode.block=crash*1"])
async def test_a_decoder_that_crashes_ends_its_session_only_and_may_be_tried_again(failpoint: str) -> None:
    async with served(failpoints=failpoint) as service:
        say = [Say(config=stream_pb2.SessionConfig()), *audio_pieces(speech(), 4000), FINISH]
        first = await talk(service, say)
        second = await talk(service, say)

        check(first.events)
        assert first.error is not None
        assert reason_of(first.error) == "DECODER_RESTARTING"
        assert len(second.of("final")) == 1


async def test_what_is_no_audio_is_said_while_it_comes() -> None:
    async with served() as service:
        heard = Talk(service)
        await heard.say(Say(config=stream_pb2.SessionConfig()), *audio_pieces(b"this is no audio at all, " * 4000, 1000))
        await heard.rest()

        check(heard.events)
        assert heard.of("error")[0].reason == "AUDIO_UNDECODABLE"


async def test_a_crowd_that_vanishes_leaves_nothing_behind() -> None:
    async with served() as service:
        service.controls.hold()
        talks = [Talk(service) for _ in range(20)]
        for heard in talks:
            await heard.say(config(resume_window_ms=50), *audio_pieces(sample_pcm()[:64_000], 64_000))
        for heard in talks:
            await heard.hear("speech")
        for heard in talks:
            heard.call.cancel()
        await none_left(service)
        async with asyncio.timeout(10):
            await service.controls.wait_running(0)
        service.controls.release()

        assert service.running.engine.load.queued == 0
        heard = await talk(service, [config(), *audio_pieces(sample_pcm() + quiet(1000)), FINISH])
        assert len(heard.of("final")) == 1


async def test_the_service_ends_in_time_whatever_its_sessions_do() -> None:
    async with served(drain_timeout=0.3) as service:
        service.controls.hold()
        heard = Talk(service)
        await heard.say(config(), *audio_pieces(sample_pcm()))
        await heard.hear("speech")
        async with asyncio.timeout(10):
            await service.running.drain()
        await heard.rest()

        assert heard.error is not None or heard.kinds[-1] == "end"
