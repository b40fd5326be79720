"""Align, and words with times, over real gRPC: the embedded recogniser's own alignment, and the small forced aligner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped, unused-ignore]

from asr_service.app import serving
from asr_service.config import Settings
from asr_service.pb.asr.v1 import info_pb2, stream_pb2, transcript_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.pb.asr.v1.transcribe_pb2 import AlignRequest
from tests.model.sounds import Spoken, joined, spoken_clips
from tests.wire.conftest import PCM, Served, request
from tests.wire.talking import FINISH, Talk, audio_pieces, config, quiet
from tests.wire.test_qwen3 import SMALL, by_language, messages, pcm

SPEECH = Path(__file__).parents[1] / "data/speech"
ALIGNER = Path(__file__).parents[1] / "data/qwen3/aligner"


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Any]:
    loaded = Settings.load(grpc_port=0, metrics_enabled=False, drain_timeout=5.0, torch_threads=1, **settings)
    async with serving(loaded) as running, grpc.aio.insecure_channel(running.address) as channel:
        yield Served(running, AsrServiceStub(channel), channel, None)  # type: ignore[arg-type]


def aligned(**settings: Any) -> Any:
    chosen = {"engine": "qwen3", "model_id": str(SMALL), "forced_aligner_id": str(ALIGNER), "device": "cpu"}
    return served(**(chosen | settings))


@pytest.fixture(scope="module")
def english() -> list[Spoken]:
    return by_language(spoken_clips("clean"), "English")


def check_order(words: Sequence[transcript_pb2.Word], first_ms: int, last_ms: int) -> None:
    assert words[0].start_ms >= first_ms
    assert words[-1].end_ms <= last_ms
    assert all(word.start_ms < word.end_ms for word in words)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(words))


async def refusal(service: Served, **fields: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.Align(AlignRequest(**fields))
    return caught.value.code().name, caught.value.details() or ""


async def test_pocketsphinx_aligns_a_text_that_is_known() -> None:
    samples, _ = soundfile.read(SPEECH / "thanks.flac", dtype="float32")
    known = (SPEECH / "thanks.txt").read_text().strip()
    async with served(engine="pocketsphinx", engine_slots=1) as service:
        answer = await service.stub.Align(AlignRequest(format=PCM, audio=pcm(samples), text=f"“{known}!”", language="en"))
        heard = await service.stub.Transcribe(request(pcm(samples), format=PCM, config={"word_times": True}))

    assert answer.engine.name == "pocketsphinx"
    assert " ".join(word.text for word in answer.words) == f"“{known}!”"
    check_order(answer.words, 0, len(samples) // 16)
    assert not any(word.interpolated for word in answer.words)
    recognised = [word for segment in heard.transcript.segments for word in segment.words]
    assert [word.text for word in recognised] == known.split()
    assert np.median([abs(a.start_ms - b.start_ms) for a, b in zip(answer.words, recognised, strict=True)]) <= 30


async def test_a_word_that_pocketsphinx_lacks_is_put_between_the_others() -> None:
    samples, _ = soundfile.read(SPEECH / "thanks.flac", dtype="float32")
    words = (SPEECH / "thanks.txt").read_text().split()
    text = " ".join([*words[:4], "xyzzyq", *words[4:]])
    async with served(engine="pocketsphinx", engine_slots=1) as service:
        answer = await service.stub.Align(AlignRequest(format=PCM, audio=pcm(samples), text=text, language="en"))

    assert [word.text for word in answer.words] == text.split()
    assert answer.words[4].interpolated
    assert sum(word.interpolated for word in answer.words) <= 3
    check_order(answer.words, 0, len(samples) // 16)


async def test_what_cannot_be_aligned_is_refused() -> None:
    async with served(engine="pocketsphinx", engine_slots=1) as service:
        good = {"format": PCM, "audio": quiet(1000), "text": "hello", "language": "en"}
        assert await refusal(service, **(good | {"text": " "})) == (
            "INVALID_ARGUMENT",
            "text: expected what is said in the recording",
        )
        assert (await refusal(service, **(good | {"text": "?!"})))[0] == "INVALID_ARGUMENT"
        assert (await refusal(service, **(good | {"language": ""})))[0] == "INVALID_ARGUMENT"
        assert (await refusal(service, **(good | {"language": "xx"})))[0] == "INVALID_ARGUMENT"
        assert (await refusal(service, **(good | {"language": "de"})))[0] == "FAILED_PRECONDITION"
        assert (await refusal(service, **(good | {"audio": b""})))[0] == "INVALID_ARGUMENT"


async def test_without_an_aligner_the_setting_is_named() -> None:
    async with served(engine="fake") as service:
        code, details = await refusal(service, format=PCM, audio=quiet(1000), text="hello", language="en")
        info = await service.stub.GetServerInfo(info_pb2.GetServerInfoRequest())

    assert code == "FAILED_PRECONDITION"
    assert "FORCED_ALIGNER_ID" in details
    (feature,) = [feature for feature in info.features if feature.name == "align"]
    assert not feature.available
    assert "FORCED_ALIGNER_ID" in feature.reason


async def test_the_forced_aligner_gives_words_to_every_answer(english: list[Spoken]) -> None:
    clip = english[0]
    duration_ms = len(clip.samples) // 16
    async with aligned() as service:
        whole = await service.stub.Transcribe(request(pcm(clip.samples), format=PCM, config={"word_times": True}))
        both = {"word_times": True, "word_confidence": True}
        sure = await service.stub.Transcribe(request(pcm(clip.samples), format=PCM, config=both))
        plain = await service.stub.Transcribe(request(pcm(clip.samples), format=PCM))
        known = await service.stub.Align(AlignRequest(format=PCM, audio=pcm(clip.samples), text=clip.text, language="English"))
        upload = [event async for event in service.stub.TranscribeUpload(messages(pcm(clip.samples), {"word_times": True}))]
        info = await service.stub.GetServerInfo(info_pb2.GetServerInfoRequest())

    (segment,) = whole.transcript.segments
    assert " ".join(word.text for word in segment.words) == segment.text
    check_order(segment.words, segment.start_ms, segment.end_ms)
    assert not any(word.HasField("confidence") for word in segment.words)
    assert [word.text for word in sure.transcript.segments[0].words] == [word.text for word in segment.words]
    assert all(0.2 < word.confidence <= 1.0 for word in sure.transcript.segments[0].words)
    assert not sure.warnings
    assert not whole.warnings
    assert not plain.transcript.segments[0].words
    (sent,) = [event.segment for event in upload if event.HasField("segment")]
    assert list(sent.words) == list(segment.words)
    assert [word.text for word in known.words] == clip.text.split()
    assert known.engine.name == "qwen3-forced-aligner"
    assert known.timings.align_ms > 0
    check_order(known.words, 0, duration_ms)
    assert {"align", "word_times"} <= {feature.name for feature in info.features if feature.available}


async def test_longer_texts_are_divided_among_the_stretches_that_were_heard(english: list[Spoken]) -> None:
    spoken = [english[index % len(english)] for index in range(24)]
    audio = joined(spoken, pause_s=0.9)
    text = ". ".join(clip.text for clip in spoken)
    assert len(audio) > 64 * 16_000
    async with aligned() as service:
        answer = await service.stub.Align(AlignRequest(format=PCM, audio=pcm(audio), text=text, language="en"))

    assert " ".join(word.text for word in answer.words) == text
    check_order(answer.words, 0, len(audio) // 16)
    assert answer.usage.engine_calls >= 20
    assert answer.usage.speech_ms < answer.usage.audio_ms
    begins_ms = np.cumsum([0, *(len(clip.samples) // 16 + 900 for clip in spoken)])
    n_words = np.cumsum([0, *(len(clip.text.split()) for clip in spoken)])
    for clip_number in range(len(spoken)):
        words = answer.words[n_words[clip_number] : n_words[clip_number + 1]]
        middle_ms = np.median([word.start_ms for word in words])
        assert begins_ms[clip_number] <= middle_ms <= begins_ms[clip_number + 1]


async def test_live_finals_are_followed_by_their_words(english: list[Spoken]) -> None:
    clip = english[0]
    wanted = config(recognition=transcript_pb2.RecognitionConfig(word_times=True))
    sound = pcm(clip.samples) + quiet(1500)
    async with aligned() as service:
        talk = await Talk(service).say(wanted, *audio_pieces(sound), *audio_pieces(sound), FINISH)
        await talk.rest()
        without = await Talk(service).say(config(), *audio_pieces(sound), FINISH)
        await without.rest()

    assert talk.error is None
    finals, refinements = talk.of("final"), talk.of("refinement")
    assert len(finals) == 2
    assert [refinement.utterance for refinement in refinements] == [final.utterance for final in finals]
    for final, refinement in zip(finals, refinements, strict=True):
        assert not final.segment.words
        assert " ".join(word.text for word in refinement.words) == final.segment.text
        check_order(refinement.words, final.segment.start_ms, final.segment.end_ms)
        assert talk.kinds.index("final") < talk.kinds.index("refinement")
    assert talk.kinds[-1] == "end"
    assert talk.of("end")[0].reason == stream_pb2.SESSION_END_REASON_FINISHED
    assert without.of("final")
    assert not without.of("refinement")
