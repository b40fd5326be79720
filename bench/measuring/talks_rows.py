"""Many people who talk at once, and live speech beside uploads: rows of what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.api import httpbody_pb2

from asr_service.pb.asr.v1 import audio_pb2, transcribe_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.request import SAMPLE_RATE, Samples
from measuring.live_talks import SILENCE_MS, Heard, talkers
from measuring.packet_cost import percentile
from measuring.report import Row, row
from measuring.service_process import cores_apart, service_process
from measuring.spoken import ROOT, Speakers, pcm, talk

SMALL = ROOT / "tests/data/qwen3/small"
_UPLOAD_PIECE = 64 * 1024
_BREATH_S = 0.8


@dataclass(frozen=True)
class TalkScale:
    """`n_streams` for `seconds`; beside uploads `n_beside` for `phase_s`, `n_rounds` times, with `n_uploads`."""

    n_streams: int = 64
    seconds: float = 30.0
    n_beside: int = 4
    phase_s: float = 15.0
    n_rounds: int = 2
    n_uploads: int = 3


def _settings(model: Path) -> dict[str, str]:
    return {"ENGINE": "qwen3", "MODEL_ID": str(model), "DEVICE": "cpu", "MAX_REQUESTS": "1000"}


def _talks(speakers: Speakers, n: int, seconds: float) -> list[Samples]:
    """Each begins with another clip; all end in silence, so that the last pause is one."""
    end = np.zeros(round(_BREATH_S * SAMPLE_RATE), np.float32)
    said = (talk(speakers.clips, seconds - _BREATH_S, breath_s=_BREATH_S, first=index) for index in range(n))
    return [np.concatenate((samples, end)) for samples in said]


async def measure_many(scale: TalkScale, speakers: Speakers, model: Path = SMALL) -> list[Row]:
    """STREAMS: real-time streams on one machine with the small checkpoint."""
    heard = Heard()
    cores = set().union(*cores_apart())
    async with service_process(cores, **_settings(model)) as service:
        before_s = service.cpu_s
        await talkers(service.address, _talks(speakers, scale.n_streams, scale.seconds), heard)
        busy = (service.cpu_s - before_s) / scale.seconds
        confirmed, rejected = await _drafts(service.metric)
    facts: dict[str, Any] = {
        "streams": scale.n_streams,
        "seconds": scale.seconds,
        "checkpoint": model.name,
        "cores, shared with the talkers": len(cores),
        "pause that ends an utterance ms": SILENCE_MS,
        "finals": heard.n_finals,
        "throttle events": heard.n_throttled,
        "packets sent late, p99 ms": round(percentile(heard.late_ms or [0.0], 99), 1),
        "processors that the service used": round(busy, 2),
        "draft tokens confirmed, rejected": [confirmed, rejected],
    }
    return _many_rows(heard, f"{scale.n_streams} streams, {speakers.whose}", facts)


async def _drafts(metric: Callable[[str], Any]) -> tuple[float, float]:
    names = [f'asr_engine_draft_tokens_total{{outcome="{how}"}}' for how in ("confirmed", "rejected")]
    return await metric(names[0]), await metric(names[1])


def _many_rows(heard: Heard, who: str, facts: dict[str, Any]) -> list[Row]:
    made = []
    for what, values in (
        (f"end of speech to final, {SILENCE_MS} ms of them the pause", heard.final_ms),
        ("start of speech to its first text", heard.first_ms),
        ("end of a word until it stands", heard.commit_ms),
        ("age of the newest recognised audio at a partial", heard.behind_ms),
    ):
        made += [
            row("STREAMS", f"{who}: {what}, p{percent}", _percentile(values, percent), "ms", **facts)
            for percent in (50, 95, 99)
        ]
    revised = 100 * heard.n_revised / max(1, heard.n_finals)
    early = 100 * heard.n_early_words / max(1, len(heard.commit_ms))
    ends = "as the recogniser told them" if heard.n_exact_words else "spread over the utterance by letters"
    return [
        *made,
        row("STREAMS", f"{who}: words that stood before the final", early, "%", **(facts | {"ends of words": ends})),
        row("STREAMS", f"{who}: finals that revise committed text", revised, "%", target="< 1", met=revised < 1, **facts),
        row(
            "STREAMS",
            f"{who}: committed text taken back",
            heard.n_retracted,
            "",
            target="0",
            met=not heard.n_retracted,
            **facts,
        ),
        row("STREAMS", f"{who}: sessions that failed", heard.n_failed, "", target="0", met=not heard.n_failed, **facts),
    ]


def _percentile(values: list[float], percent: float) -> float:
    return percentile(values, percent) if values else float("nan")


async def measure_beside_uploads(scale: TalkScale, speakers: Speakers, model: Path = SMALL) -> list[Row]:
    """C8: finals of live sessions with and without uploads, through the service, in turns."""
    quiet, both = Heard(), Heard()
    talks = _talks(speakers, scale.n_beside, scale.phase_s)
    upload = pcm(talk(speakers.clips, 120, breath_s=0.2))
    cores = set().union(*cores_apart())
    n_done = 0
    async with service_process(cores, **_settings(model)) as service:
        await talkers(service.address, talks[:1], Heard())  # warm
        for _ in range(scale.n_rounds):
            await talkers(service.address, talks, quiet)
            uploading = [asyncio.create_task(_upload_on(service.address, upload)) for _ in range(scale.n_uploads)]
            await talkers(service.address, talks, both)
            n_done += await _stop(uploading)
    p = {percent: [_percentile(heard.final_ms, percent) for heard in (quiet, both)] for percent in (50, 95, 99)}
    facts: dict[str, Any] = {
        "live": f"{scale.n_beside} streams at the pace of speech, {speakers.whose}",
        "uploads": f"{scale.n_uploads} of 120 s at a time; {n_done} finished",
        "finals without, with": [quiet.n_finals, both.n_finals],
        "p95 without, with ms": [round(value) for value in p[95]],
        "p99 without, with ms": [round(value) for value in p[99]],
        "checkpoint": model.name,
        "pause that ends an utterance ms": SILENCE_MS,
    }
    alone = "the same live sessions without uploads, same run"
    ratio, added = p[99][1] / p[99][0], p[50][1] - p[50][0]
    what = "live sessions through the service: end of speech to final"
    return [
        row(
            "C8",
            f"{what}, p99 with {scale.n_uploads} uploads over without",
            ratio,
            "x",
            target="<= 1.3",
            met=ratio <= 1.3,
            baseline=alone,
            **facts,
        ),
        row("C8", f"{what}, p99 without the pause, with uploads over without", *_without_pause(p[99]), baseline=alone, **facts),
        row("C8", f"{what}, p50 added by uploads", added, "ms", baseline=alone, **facts),
    ]


def _without_pause(values_ms: list[float]) -> tuple[float, str]:
    """What the service itself takes."""
    quiet, both = (max(1.0, value - SILENCE_MS) for value in values_ms)
    return both / quiet, "x"


async def _stop(tasks: list[asyncio.Task[int]]) -> int:
    """How many uploads were finished."""
    for task in tasks:
        task.cancel()
    return sum(done for done in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(done, int))


async def _upload_on(address: str, data: bytes) -> int:
    """One upload after the other until it is cancelled; how many came to their end."""
    n_done = 0
    pcm_format = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=SAMPLE_RATE)

    async def pieces() -> AsyncIterator[transcribe_pb2.TranscribeUploadRequest]:
        yield transcribe_pb2.TranscribeUploadRequest(format=pcm_format)
        for first in range(0, len(data), _UPLOAD_PIECE):
            yield transcribe_pb2.TranscribeUploadRequest(audio=httpbody_pb2.HttpBody(data=data[first : first + _UPLOAD_PIECE]))

    with suppress(asyncio.CancelledError):
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = AsrServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
            while True:
                async for _ in stub.TranscribeUpload(pieces()):
                    pass
                n_done += 1
    return n_done
