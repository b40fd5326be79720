"""Recordings of hours at a real server process: flat memory, visible progress, every sentence, and nothing left of an abort."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic

import av
import numpy as np
import psutil
import pytest

from asr_service.cli.children import free_port
from asr_service.client import AsrClient, AudioEncoding, AudioFormat, TranscribeUploadResponse, UploadTranscript

pytestmark = pytest.mark.soak

SAMPLE = Path(__file__).parents[1] / "data" / "sample.flac"
RATE = 16_000
RAW = AudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=RATE)
PAUSE_S = 2
LIMIT_BYTES = 120 * 2**20


def sentence() -> bytes:
    """The sample and a pause, 16-bit."""
    with av.open(str(SAMPLE)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]).astype("<i2")
    return samples.tobytes() + bytes(2 * RATE * PAUSE_S)


async def again_and_again(spoken: bytes, times: int) -> AsyncIterator[bytes]:
    for _ in range(times):
        yield spoken


def write_flac(path: Path, spoken: bytes, times: int) -> None:
    samples = np.frombuffer(spoken, "<i2").reshape(1, -1)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono", format="s16")
        for _ in range(times):
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass
class Server:
    """The process, its decoders included."""

    process: psutil.Process
    target: str
    rss_at: list[tuple[float, int]] = field(default_factory=list)  # seconds of the source, bytes

    def rss(self) -> int:
        return sum(member.memory_info().rss for member in [self.process, *self.process.children(recursive=True)])

    def note(self, processed_ms: int) -> None:
        self.rss_at.append((processed_ms / 1000, self.rss()))


@asynccontextmanager
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    port = free_port()
    chosen = {"ENGINE": "fake", "GRPC_PORT": str(port), "METRICS_ENABLED": "false", "LOG_LEVEL": "warning"}
    with (tmp_path / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "asr_service", "serve"), env=os.environ | chosen, stdout=log, stderr=log
        )
        try:
            target = f"127.0.0.1:{port}"
            async with AsrClient(target) as client:
                await client.wait_ready(90)
            yield Server(psutil.Process(process.pid), target)
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)


async def transcribe(running: Server, source: AsyncIterator[bytes] | Path) -> tuple[UploadTranscript, list[int]]:
    """The transcript, and how far each progress event was; memory is looked at with each of them."""
    transcript, processed_ms = UploadTranscript(), []
    audio_format = None if isinstance(source, Path) else RAW
    async with AsrClient(running.target) as client:
        async for event in client.transcribe_upload(source, audio_format=audio_format):
            transcript.feed(event)
            if event.HasField("progress"):
                processed_ms.append(event.progress.processed_ms)
                running.note(event.progress.processed_ms)
    return transcript, processed_ms


@dataclass(frozen=True)
class Words:
    """How many are in the first sentence, and in each later one, whose beginning is heard after a pause."""

    first: int
    later: int

    @classmethod
    def of(cls, three: UploadTranscript) -> Words:
        first, second, third = (len(segment.text.split()) for segment in three.segments)
        assert second == third
        return cls(first, second)

    def among(self, times: int) -> int:
        return self.first + (times - 1) * self.later


def check_nothing_is_missing(transcript: UploadTranscript, sentence_ms: int, times: int, words: Words) -> None:
    """As many words come out as go in, those of each sentence where it was said, in segments and in the whole text."""
    completed, segments = transcript.completed, transcript.segments
    assert completed.duration_ms == times * sentence_ms
    assert completed.segment_count == len(segments) == times
    assert [s.index for s in segments] == list(range(times))
    assert [(s.start_ms + s.end_ms) // 2 // sentence_ms for s in segments] == list(range(times))
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(segments))
    assert [len(s.text.split()) for s in segments] == [words.first, *[words.later] * (times - 1)]
    assert len(completed.text.split()) == words.among(times)


@pytest.mark.parametrize(
    ("hours", "is_file"),
    [
        pytest.param(1, True, marks=pytest.mark.timeout(3600), id="1 h, FLAC"),
        pytest.param(10, False, marks=pytest.mark.timeout(6 * 3600), id="10 h, raw"),
    ],
)
async def test_hours_take_no_more_memory_than_minutes(
    hours: int, is_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken = await asyncio.to_thread(sentence)
    sentence_ms = len(spoken) // 2 * 1000 // RATE
    times = hours * 3_600_000 // sentence_ms + 1
    path = tmp_path / "long.flac"
    if is_file:
        await asyncio.to_thread(write_flac, path, spoken, times)
    async with server(tmp_path) as running:
        three, _ = await transcribe(running, again_and_again(spoken, 3))
        idle = running.rss()
        running.rss_at.clear()
        started_s = monotonic()

        transcript, processed_ms = await transcribe(running, path if is_file else again_and_again(spoken, times))
        spent_s = monotonic() - started_s

    check_nothing_is_missing(transcript, sentence_ms, times, Words.of(three))
    assert processed_ms == sorted(processed_ms)
    assert len(processed_ms) > 2
    highest = max(rss for _, rss in running.rss_at)
    assert highest - idle < LIMIT_BYTES
    with capsys.disabled():
        curve = [
            (round(at_s), round((rss - idle) / 2**20, 1)) for at_s, rss in running.rss_at[:: len(running.rss_at) // 12 or 1]
        ]
        summary = {
            "hours": hours,
            "spent_s": round(spent_s),
            "idle_mib": round(idle / 2**20),
            "words": Words.of(three).among(times),
        }
        print("\n", json.dumps(summary | {"grown_mib_at_s": curve, "progress_events": len(processed_ms)}))  # noqa: T201


@pytest.mark.timeout(1200)
async def test_an_abort_in_the_middle_frees_everything(tmp_path: Path) -> None:
    spoken = await asyncio.to_thread(sentence)
    async with server(tmp_path) as running, AsrClient(running.target) as client:
        three, _ = await transcribe(running, again_and_again(spoken, 3))
        idle = running.rss()

        for _ in range(20):
            await _abort_after_minutes(client, spoken)

        while (load := (await client.server_info()).load).requests or load.queued_segments or load.running_segments:
            pass
        assert running.rss() - idle < LIMIT_BYTES
        transcript, _ = await transcribe(running, again_and_again(spoken, 20))
        check_nothing_is_missing(transcript, len(spoken) // 2 * 1000 // RATE, 20, Words.of(three))


async def _abort_after_minutes(client: AsrClient, spoken: bytes) -> None:
    async with aclosing(client.transcribe_upload(again_and_again(spoken, 10_000), audio_format=RAW)) as events:
        async for event in events:
            if _is_minutes_in(event):
                return


def _is_minutes_in(event: TranscribeUploadResponse) -> bool:
    return event.cursors.committed_ms > 180_000
