"""Live speech and uploads on one engine: what uploads do to those who wait for a partial text, and what is left of the uploads.

    live      4 streams; each brings 2 s of speech every 4 s, at times of its own, as a REALTIME work of 6 tokens
    uploads   3, each with one BATCH segment of 30 s and 60 tokens inside at any time; the next one follows at once

Phases with and without uploads, and of uploads alone, follow each other. From a chunk's arrival to its last token is what a
speaker waits for.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from asr_service.request import Priority, Samples
from measuring.own_engine import OwnEngine
from measuring.report import Row, row

N_STREAMS, CHUNK_S, EVERY_S, CHUNK_TOKENS = 4, 2.0, 4.0, 6
N_UPLOADS, SEGMENT_S, SEGMENT_TOKENS = 3, 30.0, 60
PHASE_S = 24.0

MakeClip = Callable[[float, int], Samples]


@dataclass
class Phase:
    """What happened in one phase."""

    waits_s: list[float] = field(default_factory=list)  # live, chunk to answer
    n_tokens: int = 0  # of uploads, also of segments that were not finished
    longest_gap_s: float = 0.0  # between two tokens of one upload


async def measure_live_load(engine: OwnEngine, clip: MakeClip, n_rounds: int) -> list[Row]:
    """C8, C9"""
    quiet, both, bulk = Phase(), Phase(), Phase()
    chunk, segment = clip(CHUNK_S, 1), clip(SEGMENT_S, 2)
    for _ in range(n_rounds):
        await _run(engine, quiet, chunk, None)
        await _run(engine, both, chunk, segment)
        await _run(engine, bulk, None, segment)
    p99 = {name: statistics.quantiles(phase.waits_s, n=100)[98] for name, phase in (("quiet", quiet), ("both", both))}
    p50 = {name: statistics.median(phase.waits_s) for name, phase in (("quiet", quiet), ("both", both))}
    kept = 100 * both.n_tokens / bulk.n_tokens
    facts = {
        "live": f"{N_STREAMS} streams, {CHUNK_S:g} s every {EVERY_S:g} s, {CHUNK_TOKENS} tokens",
        "uploads": f"{N_UPLOADS} at a time, {SEGMENT_S:g} s and {SEGMENT_TOKENS} tokens each",
        "chunks": len(both.waits_s),
        "p50 without, with": [round(1000 * p50["quiet"]), round(1000 * p50["both"])],
        "p99 without, with": [round(1000 * p99["quiet"]), round(1000 * p99["both"])],
    }
    ratio = p99["both"] / p99["quiet"]
    alone = "the same live streams without uploads"
    return [
        row(
            "C8", "live p99 with 3 uploads over without", ratio, "x", target="<= 1.3", met=ratio <= 1.3, baseline=alone, **facts
        ),
        row("C8", "live p50 with 3 uploads over without", p50["both"] / p50["quiet"], "x", baseline=alone, **facts),
        row(
            "C9",
            "upload throughput kept beside 4 live streams",
            kept,
            "%",
            target=">= 75",
            met=kept >= 75,
            baseline="alone",
            **facts,
        ),
        row(
            "C9",
            "longest time an upload got no token",
            both.longest_gap_s,
            "s",
            target="< 15",
            met=both.longest_gap_s < 15,
            **facts,
        ),
    ]


async def _run(engine: OwnEngine, phase: Phase, chunk: Samples | None, segment: Samples | None) -> None:
    until_s = perf_counter() + PHASE_S
    uploads = [asyncio.create_task(_upload(engine, phase, segment)) for _ in range(N_UPLOADS)] if segment is not None else []
    if chunk is not None:
        await asyncio.gather(*(_stream(engine, phase, chunk, index, until_s) for index in range(N_STREAMS)))
    else:
        await asyncio.sleep(PHASE_S)
    for upload in uploads:
        upload.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)


async def _stream(engine: OwnEngine, phase: Phase, chunk: Samples, index: int, until_s: float) -> None:
    due_s = perf_counter() + EVERY_S * (index + 0.37) / N_STREAMS
    while due_s < until_s - EVERY_S / 2:
        await asyncio.sleep(max(0.0, due_s - perf_counter()))
        await engine.recognize(chunk, CHUNK_TOKENS, Priority.REALTIME)
        phase.waits_s.append(perf_counter() - due_s)
        due_s += EVERY_S


async def _upload(engine: OwnEngine, phase: Phase, segment: Samples) -> None:
    last_s = perf_counter()

    def heard(_text: str) -> None:
        nonlocal last_s
        now_s = perf_counter()
        phase.n_tokens += 1
        phase.longest_gap_s = max(phase.longest_gap_s, now_s - last_s)
        last_s = now_s

    while True:
        await engine.recognize(segment, SEGMENT_TOKENS, Priority.BATCH, on_partial=heard)
