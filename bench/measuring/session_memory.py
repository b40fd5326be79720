"""What live sessions hold: one that goes on for an hour, and many that wait."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from asr_service.pb.asr.v1 import audio_pb2, stream_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from asr_service.request import SAMPLE_RATE
from measuring.report import Row, row
from measuring.service_process import Service, cores_apart, service_process
from measuring.spoken import own_clips, pcm, talk

MIB = 2**20
_PACKET_BYTES = 2 * SAMPLE_RATE  # a second
_BREATH_S = 0.25  # less than ends an utterance: the greatest length does
_WARM_SESSIONS = 32


@dataclass(frozen=True)
class MemoryScale:
    """Minutes of talk, and how many idle sessions."""

    minutes: int = 60
    n_idle: int = 400


async def measure_memory(scale: MemoryScale) -> list[Row]:
    """C13"""
    cores = set().union(*cores_apart())
    async with service_process(cores, ENGINE="fake", MAX_REQUESTS="10000") as service:
        marks = await _long_talk(service, scale.minutes)
    async with service_process(cores, ENGINE="fake", MAX_REQUESTS="10000") as service:
        each = await _idle_sessions(service, scale.n_idle)
    growth = (marks[-1] - marks[0]) / MIB
    what = f"one session, {scale.minutes} min of talk without a pause of 500 ms"
    facts: dict[str, Any] = {
        "memory at the quarters MiB": [round(mark / MIB, 1) for mark in marks],
        "recogniser": "one that keeps nothing",
    }
    return [
        row("C13", f"{what}: memory from its first quarter to its end", growth, "MiB", target="< 5", met=growth < 5, **facts),
        row("C13", f"memory of an idle session, of {scale.n_idle}", each / 1024, "KiB"),
    ]


async def _long_talk(service: Service, minutes: int) -> list[int]:
    """Bytes in use after each quarter, as fast as the service takes it."""
    audio = pcm(talk(own_clips().clips, 120, breath_s=_BREATH_S))
    packets = [audio[at : at + _PACKET_BYTES] for at in range(0, len(audio), _PACKET_BYTES)]
    marks: list[int] = []
    async with _session(service.address) as call:
        acks: asyncio.Queue[str] = asyncio.Queue()
        reading = asyncio.create_task(_read(call, acks))
        for quarter in range(4):
            for second in range(15 * minutes):
                await call.write(Say(audio=stream_pb2.Audio(data=packets[second % len(packets)])))
            await call.write(Say(flush=stream_pb2.Flush()))
            await call.write(Say(marker=stream_pb2.Marker(id=str(quarter))))
            await acks.get()
            marks.append(await _settled(service))
        await call.write(Say(finish=stream_pb2.Finish()))
        await reading
    return marks


async def _read(call: Any, acks: asyncio.Queue[str]) -> None:
    async for event in call:
        if event.WhichOneof("event") == "marker_ack":
            acks.put_nowait(event.marker_ack.id)


async def _idle_sessions(service: Service, n: int) -> float:
    """Bytes for each of so many that said a second of silence and nothing since."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub: Any = AsrServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        calls = [await _open(stub) for _ in range(_WARM_SESSIONS)]
        before = await _settled(service)
        calls += [await _open(stub) for _ in range(n)]
        after = await _settled(service)
        for call in calls:
            call.cancel()
    return (after - before) / n


async def _open(stub: Any) -> Any:
    call = stub.StreamTranscribe()
    await call.write(_config())
    await call.write(Say(audio=stream_pb2.Audio(data=bytes(_PACKET_BYTES))))
    await call.write(Say(marker=stream_pb2.Marker(id="here")))
    while (await call.read()).WhichOneof("event") != "marker_ack":
        pass
    return call


async def _settled(service: Service) -> int:
    """The median of some looks, since allocators breathe."""
    looks = []
    for _ in range(5):
        await asyncio.sleep(0.1)
        looks.append(service.rss)
    return round(statistics.median(looks))


@asynccontextmanager
async def _session(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = AsrServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        call = stub.StreamTranscribe()
        await call.write(_config())
        yield call


def _config() -> Say:
    pcm_format = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=SAMPLE_RATE)
    return Say(config=stream_pb2.SessionConfig(format=pcm_format))
