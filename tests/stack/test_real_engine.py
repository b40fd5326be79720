"""The embedded recogniser behind the whole service: the repository's speech is read right, real speech plausibly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from asr_service.app import serving
from asr_service.config import Settings
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from tests.real_audio import CLIPS, real_clip, word_errors
from tests.wire.conftest import request

DATA = Path(__file__).parents[1] / "data"
OWN = [DATA / "sample.flac", *sorted((DATA / "speech").glob("*.flac"))]


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    settings = Settings.load(engine="pocketsphinx", grpc_port=0, metrics_enabled=False)
    async with serving(settings) as service, grpc.aio.insecure_channel(service.address) as channel:
        yield AsrServiceStub(channel)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
async def test_the_projects_own_speech_is_read_without_error(stub: Any, path: Path) -> None:
    audio = await asyncio.to_thread(path.read_bytes)
    text = await asyncio.to_thread(path.with_suffix(".txt").read_text)
    response = await stub.Transcribe(request(audio, config={"word_times": True, "word_confidence": True}))

    assert response.transcript.text == text.strip()
    words = [word for segment in response.transcript.segments for word in segment.words]
    assert " ".join(word.text for word in words) == response.transcript.text
    assert all(0.0 <= word.confidence <= 1.0 for word in words)


async def test_real_speech_is_plausible_english(stub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    total_errors = total_words = 0
    for name, said in CLIPS.items():
        response = await stub.Transcribe(request(await asyncio.to_thread(real_clip(name).read_bytes)))
        errors, n_words = word_errors(said, response.transcript.text.replace("mr ", "mister "))
        total_errors, total_words = total_errors + errors, total_words + n_words
        with capsys.disabled():
            print(f"\n{name}: WER {errors / n_words:.0%}  {response.transcript.text!r}", end="")  # noqa: T201

    assert total_errors / total_words < 0.5
