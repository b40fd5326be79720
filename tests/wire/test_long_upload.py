"""An upload far longer than anything that may be held in memory: every second of it is read, and memory stays flat."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import numpy as np
import psutil
import pytest
from google.api.httpbody_pb2 import HttpBody

from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadRequest
from tests.wire.conftest import PCM, Served, served, silence
from tests.wire.test_upload import sample_pcm

PAUSE_S = 2.0
GROWTH_LIMIT = 120 * 2**20


async def talk(spoken: bytes, times: int) -> AsyncIterator[TranscribeUploadRequest]:
    """The same sentence again and again, with pauses."""
    piece = spoken + silence(PAUSE_S)
    for index in range(times):
        yield TranscribeUploadRequest(audio=HttpBody(data=piece), format=PCM if index == 0 else None)


async def upload(service: Served, spoken: bytes, times: int) -> tuple[int, int, int, int]:
    """Segments, duration in ms, highest RSS on the way, and the largest lag of committed behind received in ms."""
    process, highest, lag_ms, segments = psutil.Process(), 0, 0, 0
    async for event in service.stub.TranscribeUpload(talk(spoken, times)):
        highest = max(highest, process.memory_info().rss)
        segments += event.HasField("segment")
        if event.HasField("completed"):
            assert event.completed.segment_count == segments
            return segments, event.completed.duration_ms, highest, lag_ms
        lag_ms = max(lag_ms, event.cursors.received_ms - event.cursors.committed_ms)
    pytest.fail("the upload did not complete")


@pytest.mark.parametrize("seconds", [180, pytest.param(3600, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])])
async def test_a_long_upload_is_read_whole_in_flat_memory(seconds: int, capsys: pytest.CaptureFixture[str]) -> None:
    spoken = await asyncio.to_thread(sample_pcm)
    sentence_ms = len(spoken) // 32 + round(PAUSE_S * 1000)
    times = seconds * 1000 // sentence_ms + 1
    async with served() as service:
        await upload(service, spoken, 2)
        gc.collect()
        before = psutil.Process().memory_info().rss

        segments, duration_ms, highest, lag_ms = await upload(service, spoken, times)

    assert duration_ms == times * sentence_ms
    assert segments >= times
    assert highest - before < GROWTH_LIMIT
    with capsys.disabled():
        grown_mib = (highest - before) / 2**20
        summary = f"{segments} segments, memory {grown_mib:+.1f} MiB at most, lag {lag_ms} ms"
        print(f"\n{duration_ms / 1000:.0f} s uploaded: {summary}")  # noqa: T201


def test_the_sentence_is_not_silence() -> None:
    assert np.frombuffer(sample_pcm(), np.int16).std() > 500
