"""SEGMENT_SOFT_SECONDS and SEGMENT_HARD_SECONDS bound every stretch that reaches the recogniser, and lose nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import soundfile

from asr_service.pb.asr.v1 import audio_pb2, transcript_pb2
from tests.wire.conftest import PCM, SAMPLE, request, served, speech


async def test_speech_without_a_pause_is_cut_at_the_hard_limit() -> None:
    once, _ = soundfile.read(SAMPLE, dtype="int16")
    without_pause = np.tile(once[8_000:-8_000], 4).tobytes()
    async with served(segment_soft_seconds=5.0, segment_hard_seconds=10.0) as service:
        response = await service.stub.Transcribe(request(without_pause, format=PCM))

    segments = response.transcript.segments
    assert len(segments) > 1
    assert all(segment.end_ms - segment.start_ms <= 10_000 for segment in segments)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(segments))
    assert transcript_pb2.QUALITY_FLAG_CUT_IN_SPEECH in segments[0].quality_flags


async def test_without_detection_the_soft_limit_bounds_pieces_that_cover_every_millisecond() -> None:
    off = {"voice_activity": {"mode": audio_pb2.VOICE_ACTIVITY_MODE_OFF}}
    async with served(segment_soft_seconds=1.0, segment_hard_seconds=10.0) as service:
        response = await service.stub.Transcribe(request(speech(), config=off))

    segments = response.transcript.segments
    assert all(segment.end_ms - segment.start_ms <= 1000 for segment in segments)
    assert (segments[0].start_ms, segments[-1].end_ms) == (0, response.transcript.duration_ms)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(segments))
