"""What one packet of live audio costs the service, beside the same packets at a bare echo; and how many streams a core bears.

Streams are paced as microphones are. The service has one core, the client the others. The clock is the service's own processor
time between two moments at which all streams are in full flow.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc

from asr_service.pb.asr.v1 import audio_pb2, stream_pb2
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from asr_service.request import SAMPLE_RATE
from measuring.echo_process import METHOD, echo_process
from measuring.report import Row, row
from measuring.service_process import Service, cores_apart, service_process, until
from measuring.spoken import own_clips, pcm, talk

STREAM = "/asr.v1.AsrService/StreamTranscribe"
PCM = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=SAMPLE_RATE)
_MARK_EVERY_S = 1.0
_SETTLE_S = 0.5


@dataclass(frozen=True)
class Load:
    """`n_streams` that send packets of `packet_ms`; with `detector` off nothing looks for speech."""

    what: str
    n_streams: int
    packet_ms: int
    is_speech: bool = False
    detector: bool = True

    @property
    def acks_at_once(self) -> bool:
        """In speech, and with everything taken for speech, a marker waits for what is said before it to be decided."""
        return self.detector and not self.is_speech

    @property
    def config(self) -> Say:
        config = stream_pb2.SessionConfig(format=PCM)
        if not self.detector:
            config.endpointing.mode = stream_pb2.ENDPOINT_MODE_OFF
            config.endpointing.max_utterance_ms = 60_000
            config.partials.enabled = False
        return Say(config=config)


@dataclass
class Spent:
    """Of one server under one load: microseconds of the processor for each packet, by round, and what the client saw."""

    packet_us: list[float] = field(default_factory=list)
    acks_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    streams_per_run: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        return statistics.median(self.packet_us)


class _Stream:
    """One call. Bytes in and out, so that the client costs as little as it can."""

    def __init__(self, channel: grpc.aio.Channel, method: str, load: Load, packets: Sequence[bytes], spent: Spent) -> None:
        self._call: Any = channel.stream_stream(method)()
        self._load = load
        self._packets = packets
        self._spent = spent
        self._is_ours = method == STREAM
        self._asked_s: dict[str, float] = {}
        self.n_sent = 0
        self.is_counted = False

    async def run(self, first_s: float, end_s: float) -> None:
        reading = asyncio.create_task(self._read())
        if self._is_ours:
            await self._call.write(self._load.config.SerializeToString())
        every_s, due_s, mark_s = self._load.packet_ms / 1000, first_s, first_s + _MARK_EVERY_S
        while due_s < end_s:
            await until(due_s)
            if self.is_counted:
                self._spent.late_ms.append(1000 * (time.monotonic() - due_s))
            await self._call.write(self._packets[self.n_sent % len(self._packets)])
            self.n_sent += 1
            if self._is_ours and due_s >= mark_s:
                mark_s += _MARK_EVERY_S
                await self._mark()
            due_s += every_s
        self._call.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    async def _mark(self) -> None:
        name = str(self.n_sent)
        self._asked_s[name] = time.monotonic()
        await self._call.write(Say(marker=stream_pb2.Marker(id=name)).SerializeToString())

    async def _read(self) -> None:
        async for message in self._call:
            if self._is_ours:
                heard = stream_pb2.StreamTranscribeResponse.FromString(message)
                if heard.WhichOneof("event") == "marker_ack" and self.is_counted:
                    self._spent.acks_ms.append(1000 * (time.monotonic() - self._asked_s[heard.marker_ack.id]))


async def spend(server: Service, method: str, load: Load, seconds: float, spent: Spent) -> None:
    """One round: all streams run; what is spent in the middle of it counts."""
    size = 2 * SAMPLE_RATE * load.packet_ms // 1000
    audio = pcm(talk(own_clips().clips, 30, breath_s=0.7)) if load.is_speech else bytes(size)
    packets = [Say(audio=stream_pb2.Audio(data=audio[at : at + size])).SerializeToString() for at in range(0, len(audio), size)]
    async with grpc.aio.insecure_channel(server.address) as channel:
        began_s = time.monotonic() + _SETTLE_S
        end_s = began_s + seconds + 2 * _SETTLE_S
        streams = [_Stream(channel, method, load, packets, spent) for _ in range(load.n_streams)]
        every_s = load.packet_ms / 1000
        tasks = [
            asyncio.create_task(stream.run(began_s + every_s * index / len(streams), end_s))
            for index, stream in enumerate(streams)
        ]
        await until(began_s + _SETTLE_S)
        runs = await _detector_runs(server)
        before = (server.cpu_s, sum(stream.n_sent for stream in streams))
        for stream in streams:
            stream.is_counted = True
        await until(end_s - _SETTLE_S)
        after = (server.cpu_s, sum(stream.n_sent for stream in streams))
        spent.packet_us.append(1e6 * (after[0] - before[0]) / max(1, after[1] - before[1]))
        new_runs = [now - then for now, then in zip(await _detector_runs(server), runs, strict=True)]
        if new_runs[1]:
            spent.streams_per_run.append(new_runs[0] / new_runs[1])
        await asyncio.gather(*tasks)


async def _detector_runs(server: Service) -> list[float]:
    """Streams in runs of the detector, and runs."""
    if not server.metrics_port:
        return [0.0, 0.0]
    return [await server.metric(f"asr_vad_streams_per_run_{part}") for part in ("sum", "count")]


async def measure_packets(loads: Sequence[Load], n_rounds: int, seconds: float) -> list[Row]:
    """C12. Service and echo in turns."""
    server_cores, client_cores = cores_apart()
    async with AsyncExitStack() as stack:
        settings = {"ENGINE": "fake", "MAX_REQUESTS": "10000"}
        service = await stack.enter_async_context(service_process(server_cores, **settings))
        echo = stack.enter_context(echo_process(server_cores))
        ours, bare = {load: Spent() for load in loads}, {load: Spent() for load in loads}
        for _ in range(n_rounds):
            for load in loads:
                await spend(service, STREAM, load, seconds, ours[load])
                await spend(echo, METHOD, load, seconds, bare[load])
    facts: dict[str, Any] = {"rounds": n_rounds, "seconds each": seconds, "cores of the service": len(server_cores)}
    facts |= {"cores of the client": len(client_cores), "recogniser": "one that costs nothing"}
    return [made for load in loads for made in _rows(load, ours[load], bare[load], facts)] + _detector_share(loads, ours)


def _rows(load: Load, ours: Spent, bare: Spent, facts: dict[str, Any]) -> list[Row]:
    ratios = [one / other for one, other in zip(ours.packet_us, bare.packet_us, strict=True)]
    p99_ack = percentile(ours.acks_ms, 99) if ours.acks_ms else math.nan
    per_core = [1e6 / (us * 1000 / load.packet_ms) for us in ours.packet_us]
    late = {"packets sent late, p99 ms": round(percentile(ours.late_ms, 99), 1)}
    base = "a bare grpc.aio echo of the same packets, same run"
    shared = facts | late | {"echo us": round(bare.median_us, 1)}
    ratio_target: dict[str, Any] = {"target": "<= 1.5", "met": statistics.median(ratios) <= 1.5} if not load.detector else {}
    core_target: dict[str, Any] = {}
    if load.acks_at_once and load.packet_ms == 100:
        core_target = {"target": ">= 200", "met": statistics.median(per_core) >= 200}
    rows = [
        row("C12", f"{load.what}: processor time of a packet", ours.packet_us, "us", baseline=base, **shared),
        row("C12", f"{load.what}: the same over the echo's", ratios, "x", baseline=base, **ratio_target, **shared),
        row("C12", f"{load.what}: streams per core that follow", per_core, "streams", **core_target, **shared),
    ]
    if load.acks_at_once:
        rows.append(
            row("C12", f"{load.what}: marker to its ack, p99", p99_ack, "ms", target="< 50", met=p99_ack < 50, **shared)
        )
    if ours.streams_per_run:
        rows.append(row("C12", f"{load.what}: streams in a run of the detector", ours.streams_per_run, "streams", **shared))
    return rows


def _detector_share(loads: Sequence[Load], ours: dict[Load, Spent]) -> list[Row]:
    """Of loads that differ in nothing else."""
    made = []
    for load in loads:
        others = [one for one in loads if not one.detector and one.packet_ms == load.packet_ms and not load.is_speech]
        if load.detector and others:
            share = [100 * (1 - b / a) for a, b in zip(ours[load].packet_us, ours[others[0]].packet_us, strict=True)]
            made.append(row("C12", f"{load.what}: share of the detector", share, "%", baseline=others[0].what))
    return made


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]
