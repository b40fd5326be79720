"""Real speech without pauses, cut because of its length: words at the cuts are heard whole, with the small checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from asr_service import app
from asr_service.pb.asr.v1.transcript_pb2 import QUALITY_FLAG_CUT_IN_SPEECH
from asr_service.transcriber.listener import StretchCaps
from tests.model.sounds import Spoken, spoken_clips
from tests.wire.test_qwen3 import messages, pcm, qwen3


def without_pauses(clips: list[Spoken]) -> bytes:
    """One after the other, without what is quiet at their edges."""
    loud = [np.flatnonzero(np.abs(clip.samples) > 0.02) for clip in clips]
    return pcm(np.concatenate([clip.samples[at[0] : at[-1]] for clip, at in zip(clips, loud, strict=True)]))


@pytest.mark.parametrize(
    ("language", "at_the_first_cut"),
    [("English", "off what cancel set red tomorrow water"), ("Chinese", "播放九四八零六六二七二二蓝色灯")],
)
async def test_a_word_at_a_cut_is_heard_whole(language: str, at_the_first_cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = without_pauses([clip for clip in spoken_clips("clean") if clip.language == language])
    text: dict[int, str] = {}
    for overlap_ms in (0, 1500):
        caps = StretchCaps(4_000, 8_000, overlap_ms)
        monkeypatch.setattr(app, "_caps", lambda _, caps=caps: caps)
        async with qwen3() as stub:
            events = [event async for event in stub.TranscribeUpload(messages(audio))]
        segments = [event.segment for event in events if event.HasField("segment")]
        assert QUALITY_FLAG_CUT_IN_SPEECH in segments[0].quality_flags
        text[overlap_ms] = events[-1].completed.text

    assert at_the_first_cut not in text[0]
    assert at_the_first_cut in text[1500]
