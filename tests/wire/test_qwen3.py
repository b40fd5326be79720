"""The Qwen3-ASR engine behind real gRPC, on the project's small checkpoint: whole recordings in, right words out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from google.api.httpbody_pb2 import HttpBody

from asr_service.app import serving
from asr_service.config import Settings
from asr_service.pb.asr.v1 import audio_pb2, info_pb2, transcribe_pb2, transcript_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.request import Samples
from tests.model.sounds import Spoken, error_rate, joined, spoken_clips
from tests.real_audio import word_errors
from tests.wire.conftest import PCM, request
from tests.wire.talking import FINISH, audio_pieces, config, said

SMALL = Path(__file__).parents[1] / "data/qwen3/small"
SECOND_BYTES = 32_000
GROWTH_LIMIT = 150 * 2**20


@asynccontextmanager
async def qwen3(**settings: Any) -> AsyncIterator[Any]:
    """A stub of a service with the engine."""
    chosen = {"engine": "qwen3", "model_id": str(SMALL), "device": "cpu", "torch_threads": 1, "drain_timeout": 5.0}
    loaded = Settings.load(**(chosen | {"grpc_port": 0, "metrics_enabled": False} | settings))
    async with serving(loaded) as running, grpc.aio.insecure_channel(running.address) as channel:
        yield AsrServiceStub(channel)


@pytest.fixture(scope="module")
def clean() -> list[Spoken]:
    return spoken_clips("clean")


def pcm(samples: Samples) -> bytes:
    return bytes((np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes())


def by_language(clips: list[Spoken], language: str) -> list[Spoken]:
    return [clip for clip in clips if clip.language == language]


def messages(audio: bytes, config: dict[str, Any] | None = None) -> Iterator[transcribe_pb2.TranscribeUploadRequest]:
    first: dict[str, Any] = {"format": PCM, "config": config}
    for start in range(0, len(audio), SECOND_BYTES):
        yield transcribe_pb2.TranscribeUploadRequest(audio=HttpBody(data=audio[start : start + SECOND_BYTES]), **first)
        first = {}


async def test_a_short_recording_gives_words_language_usage_and_the_engines_name(clean: list[Spoken]) -> None:
    async with qwen3() as stub:
        for language in ("English", "German", "Spanish", "Chinese"):
            clips = by_language(clean, language)[:3]
            responses = [await stub.Transcribe(request(pcm(clip.samples), format=PCM)) for clip in clips]
            response = responses[0]

            assert error_rate(clips, [each.transcript.text for each in responses]) <= 0.1
            assert response.transcript.language.name == language
            assert response.engine.name == "qwen3"
            assert response.engine.model == str(SMALL)
            assert response.usage.input_audio_tokens > 10
            assert response.usage.input_text_tokens > 10
            assert response.usage.output_tokens > 3
            assert not response.warnings


async def test_what_the_engine_cannot_do_is_said(clean: list[Spoken]) -> None:
    async with qwen3() as stub:
        config = {"word_times": True, "max_alternatives": 3, "context": "kitchen", "temperature": 0.0}
        response = await stub.Transcribe(request(pcm(clean[0].samples), format=PCM, config=config))
        info = await stub.ListModels(info_pb2.ListModelsRequest())

    assert {warning.field for warning in response.warnings} == {"config.word_times", "config.max_alternatives"}
    assert [language.name for language in info.models[0].languages] == ["English", "German", "Spanish", "Chinese"]


async def test_two_minutes_are_cut_at_silences_and_joined_in_order_with_partial_texts_on_the_way(clean: list[Spoken]) -> None:
    english = by_language(clean, "English")
    spoken = [english[index % len(english)] for index in range(36)]
    audio = pcm(joined(spoken, pause_s=0.9))
    async with qwen3() as stub:
        events = [event async for event in stub.TranscribeUpload(messages(audio))]

    assert [event.seq for event in events] == list(range(len(events)))
    segments = [event.segment for event in events if event.HasField("segment")]
    completed = events[-1].completed
    errors, n_words = word_errors(" ".join(clip.text for clip in spoken), completed.text)
    assert errors / n_words <= 0.1
    assert completed.text == " ".join(segment.text for segment in segments if segment.text)
    assert completed.duration_ms == len(audio) // 32
    assert completed.usage.output_tokens > n_words
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(segments))
    _check_partials(events)


def _check_partials(events: list[transcribe_pb2.TranscribeUploadResponse]) -> None:
    """They come for the first undecided segment only, and some come."""
    next_index = n_partials = 0
    for event in events:
        if event.HasField("partial"):
            n_partials += 1
            assert event.partial.index == next_index
        elif event.HasField("segment"):
            next_index += 1
    assert n_partials > 0


async def test_chinese_is_joined_without_spaces(clean: list[Spoken]) -> None:
    chinese = by_language(clean, "Chinese")
    async with qwen3() as stub:
        events = [event async for event in stub.TranscribeUpload(messages(pcm(joined(chinese, pause_s=0.9))))]

    text = events[-1].completed.text
    errors, n_characters = word_errors(" ".join("".join(clip.text for clip in chinese)), " ".join(text))
    assert " " not in text
    assert errors / n_characters <= 0.1


async def test_without_voice_activity_every_sample_is_recognised_once(clean: list[Spoken]) -> None:
    audio = pcm(joined(by_language(clean, "English"), pause_s=0.3))
    config = {"voice_activity": {"mode": "VOICE_ACTIVITY_MODE_OFF"}}
    async with qwen3(segment_soft_seconds=8.0, segment_hard_seconds=16.0) as stub:
        events = [event async for event in stub.TranscribeUpload(messages(audio, config))]

    segments = [event.segment for event in events if event.HasField("segment")]
    assert segments[0].start_ms == 0
    assert segments[-1].end_ms == events[-1].completed.duration_ms == len(audio) // 32
    assert all(before.end_ms == after.start_ms for before, after in pairwise(segments))
    assert max(segment.end_ms - segment.start_ms for segment in segments) <= 16_000


async def test_a_caller_that_leaves_frees_its_places_and_others_go_on(clean: list[Spoken]) -> None:
    async with qwen3() as stub:
        leaving = stub.TranscribeUpload(messages(pcm(joined(clean * 2))))
        await leaving.read()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving.read()
        response = await stub.Transcribe(request(pcm(clean[0].samples), format=PCM))

    assert error_rate(clean[:1], [response.transcript.text]) <= 0.2


@pytest.mark.parametrize("seconds", [90, pytest.param(3600, marks=[pytest.mark.soak, pytest.mark.timeout(3000)])])
async def test_a_long_upload_completes_in_flat_memory(
    seconds: int, clean: list[Spoken], capsys: pytest.CaptureFixture[str]
) -> None:
    piece = pcm(joined(by_language(clean, "English"), pause_s=0.8))
    n_pieces = -(-seconds * SECOND_BYTES // len(piece))
    highest = 0

    async def talk() -> AsyncIterator[transcribe_pb2.TranscribeUploadRequest]:
        for index in range(n_pieces):
            for message in messages(piece):
                if index:
                    message.ClearField("format")
                yield message

    async with qwen3() as stub:
        [_ async for _ in stub.TranscribeUpload(messages(piece))]
        gc.collect()
        process = psutil.Process()
        before = process.memory_info().rss
        text = ""
        async for event in stub.TranscribeUpload(talk()):
            highest = max(highest, process.memory_info().rss)
            text = event.completed.text if event.HasField("completed") else text

    said = " ".join(clip.text for clip in by_language(clean, "English"))
    errors, n_words = _errors_by_piece(said, n_pieces, text)
    with capsys.disabled():
        grown_mib = (highest - before) / 2**20
        print(f"\n{seconds} s uploaded: {grown_mib:+.0f} MiB at most, {errors} errors in {n_words} words", end="")  # noqa: T201
    assert errors / n_words <= 0.1
    assert highest - before < GROWTH_LIMIT


def _errors_by_piece(said: str, n_pieces: int, text: str) -> tuple[int, int]:
    """Errors in blocks, which is enough for texts of many thousand words that are nearly right."""
    words, size, errors = text.split(), len(said.split()), 0
    for index in range(n_pieces):
        errors += word_errors(said, " ".join(words[index * size : (index + 1) * size]))[0]
    return errors + abs(len(words) - n_pieces * size), n_pieces * size


def test_flags_of_the_contract_are_those_of_the_engine() -> None:
    assert {"QUALITY_FLAG_REPETITION_RECOVERED", "QUALITY_FLAG_CONTEXT_LEAK_REMOVED", "QUALITY_FLAG_TRUNCATED"} <= set(
        transcript_pb2.QualityFlag.keys()
    )


@pytest.mark.parametrize("size", [3_200, 17_777])
async def test_live_speech_is_what_its_stretches_are_alone_and_nothing_leaks(clean: list[Spoken], size: int) -> None:
    clips = [*by_language(clean, "English")[:2], by_language(clean, "German")[0], by_language(clean, "English")[2]]
    data = pcm(joined(clips, pause_s=1.2)) + bytes(32_000)
    async with qwen3() as stub:
        call = stub.StreamTranscribe(said([config(), *audio_pieces(data, size), FINISH]))
        finals = [event.final.segment async for event in call if event.HasField("final")]
        for final in finals:
            stretch = data[32 * final.start_ms : 32 * final.end_ms]
            off = {"voice_activity": {"mode": audio_pb2.VOICE_ACTIVITY_MODE_OFF}}
            alone = await stub.Transcribe(request(stretch, format=PCM, config=off))
            assert final.text == alone.transcript.text
            assert final.language == alone.transcript.segments[0].language

    assert len(finals) == len(clips)
    assert error_rate(clips, [final.text for final in finals]) <= 0.1
