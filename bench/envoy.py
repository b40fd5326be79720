"""What Envoy adds to a call, and how soon it leaves out a service that goes.

    python bench/envoy.py [--quick] [--out FILE]

A stack as `make stack` starts it, with a recogniser that costs nothing. The same calls go to a service directly and through the
front, in blocks that take turns in one run. Client, services and Envoy share the machine, so Envoy looks slower than it is.
Writes bench/results/envoy.json; --quick tries it all out at small size and writes nothing unless told where.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
import statistics
import sys
import tempfile
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # before this folder, in which `envoy` would be this file

from measuring.report import Row, machine, row, show  # noqa: E402

from asr_service.pb.asr.v1 import asr_pb2_grpc, audio_pb2, transcribe_pb2  # noqa: E402
from asr_service.pb.asr.v1.stream_pb2 import (  # noqa: E402
    Audio,
    Finish,
    Marker,
    SessionConfig,
    StreamTranscribeRequest,
)
from envoy.stack import Plan, Stack  # noqa: E402

RESULTS = ROOT / "bench/results/envoy.json"
CHUNK_S = 0.02
CHUNK = bytes(2 * 320)  # 20 ms of silence, 16-bit at 16 kHz: recognised by nobody
MAX_ADDED_MS = 2.0
MAX_RATIO = 3.0
MAX_OUT_S = 1.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    calls: int
    chunks: int
    streams: tuple[int, ...]
    goings: int


FULL = Size(rounds=10, calls=100, chunks=150, streams=(1, 8, 24), goings=5)
QUICK = Size(rounds=2, calls=20, chunks=20, streams=(1, 2), goings=1)

Block = Callable[[Any], Awaitable[list[float]]]
"""Seconds of each call of one block, on this stub."""


def wav(seconds: float) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(0).normal(0, 3000, int(seconds * 16000)).astype("<i2").tobytes())
    return target.getvalue()


@asynccontextmanager
async def stub(target: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield asr_pb2_grpc.AsrServiceStub(channel)


def unary(n: int, audio: bytes) -> Block:
    async def block(made: Any) -> list[float]:
        took_s = []
        for _ in range(n):
            started_s = perf_counter()
            await made.Transcribe(transcribe_pb2.TranscribeRequest(audio=audio))
            took_s.append(perf_counter() - started_s)
        return took_s

    return block


def bidi(n_streams: int, n_chunks: int) -> Block:
    async def block(made: Any) -> list[float]:
        took = await asyncio.gather(*(live(made, n_chunks, index * CHUNK_S / n_streams) for index in range(n_streams)))
        return [one for stream in took for one in stream]

    return block


async def live(made: Any, n_chunks: int, offset_s: float) -> list[float]:
    """A session that is sent 20 ms of silence every 20 ms, each with a marker; seconds until each marker was answered."""
    form = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16000)
    call = made.StreamTranscribe()
    sent_s: dict[str, float] = {}
    took_s: list[float] = []

    async def write() -> None:
        await call.write(StreamTranscribeRequest(config=SessionConfig(format=form)))
        next_s = perf_counter() + offset_s
        for index in range(n_chunks):
            await asyncio.sleep(max(0.0, next_s - perf_counter()))
            next_s += CHUNK_S
            sent_s[str(index)] = perf_counter()
            await call.write(StreamTranscribeRequest(audio=Audio(data=CHUNK)))
            await call.write(StreamTranscribeRequest(marker=Marker(id=str(index))))
        await call.write(StreamTranscribeRequest(finish=Finish()))
        await call.done_writing()

    writing = asyncio.create_task(write())
    while (event := await call.read()) is not grpc.aio.EOF:
        if event.HasField("marker_ack"):
            took_s.append(perf_counter() - sent_s[event.marker_ack.id])
    await writing
    assert len(took_s) == n_chunks, f"{len(took_s)} of {n_chunks} markers were answered"
    return took_s


@dataclass(frozen=True)
class Compared:
    """Milliseconds of all calls, and the median of each block."""

    direct: list[list[float]]
    fronted: list[list[float]]

    @property
    def p50s(self) -> tuple[float, float]:
        return statistics.median(chain(*self.direct)), statistics.median(chain(*self.fronted))

    def of_blocks(self, combine: Callable[[float, float], float]) -> list[float]:
        return [combine(statistics.median(d), statistics.median(f)) for d, f in zip(self.direct, self.fronted, strict=True)]


async def compare(direct: Any, fronted: Any, block: Block, n_rounds: int) -> Compared:
    """Direct and through the front in turn; who is first changes."""
    sides: dict[str, list[list[float]]] = {"direct": [], "fronted": []}
    stubs = {"direct": direct, "fronted": fronted}
    for made in stubs.values():
        await block(made)  # warm
    for index in range(n_rounds):
        order = list(stubs) if index % 2 == 0 else list(reversed(stubs))
        for name in order:
            sides[name].append([1000 * took for took in await block(stubs[name])])
    return Compared(sides["direct"], sides["fronted"])


def rows_of(id_: str, what: str, compared: Compared) -> list[Row]:
    direct, fronted = compared.p50s
    added, ratios = compared.of_blocks(lambda d, f: f - d), compared.of_blocks(lambda d, f: f / d)
    limits: dict[str, Any] = {"baseline": "direct, same run"}
    return [
        row(f"{id_}.1", f"{what}, direct, p50", direct, "ms"),
        row(f"{id_}.2", f"{what}, through Envoy, p50", fronted, "ms"),
        row(f"{id_}.3", f"{what}, added p50", added, "ms", **limits, **at_most(added, MAX_ADDED_MS)),
        row(f"{id_}.4", f"{what}, ratio of p50", ratios, "x", **limits, **at_most(ratios, MAX_RATIO)),
    ]


def at_most(values: Sequence[float], limit: float) -> dict[str, Any]:
    return {"target": f"<= {limit:g}", "met": statistics.median(values) <= limit}


async def going(stack: Stack) -> float:
    """Seconds from SIGTERM to a service that is in the middle of an upload until Envoy leaves it out."""
    part = stack.parts[0]
    assert part.program is not None
    assert stack.envoy is not None
    everybody = {str(address) for address in stack.plan.front.services}
    async with stub(str(part.address)) as made:
        call = made.TranscribeUpload()
        await call.write(transcribe_pb2.TranscribeUploadRequest())
        await call.read()
        started_s = perf_counter()
        part.program.send(signal.SIGTERM)
        await stack.envoy.admin.wait_healthy("services", everybody - {str(part.address)})
        took_s = perf_counter() - started_s
        assert part.program.is_running, "it was left out because it had ended"
        call.cancel()
    await part.program.process.wait()
    await stack.envoy.admin.wait_healthy("services", everybody)
    return took_s


async def measure(size: Size) -> list[Row]:
    os.environ |= {"ENGINE": "fake", "LOG_LEVEL": "error"}
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(Plan.of(Path(folder), 3, 2)) as stack:
            front, made = stack.plan.front, []
            async with stub(str(front.services[0])) as direct, stub(str(front.public)) as fronted:
                calls = await compare(direct, fronted, unary(size.calls, wav(3.0)), size.rounds)
                made += rows_of("E1", "unary, 3 s of audio", calls)
                for index, n_streams in enumerate(size.streams):
                    found = await compare(direct, fronted, bidi(n_streams, size.chunks), size.rounds)
                    made += rows_of(f"E{2 + index}", f"20-ms chunks, {n_streams} stream{'s'[: n_streams - 1]}", found)
            goings = [await going(stack) for _ in range(size.goings)]
            made.append(row("E9", "NOT_SERVING until it is not asked any more", goings, "s", **at_most(goings, MAX_OUT_S)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="everything, at small size")
    parser.add_argument("--out", type=Path, help="file for the results")
    chosen = parser.parse_args()
    size = QUICK if chosen.quick else FULL
    conditions = machine() | {"rounds": size.rounds, "engine": "fake", "envoy": "1 worker thread", "access log": "on"}
    made = [entry | {"conditions": conditions} for entry in asyncio.run(measure(size))]
    show(made)
    out = chosen.out or (None if chosen.quick else RESULTS)
    if out is not None:
        out.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
