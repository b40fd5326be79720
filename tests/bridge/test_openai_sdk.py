"""The official `openai` package works against the bridge as against OpenAI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from tests.bridge.conftest import bridge_to
from tests.bridge.fake_service import MODEL, TEXT, Failure, Running

FILE = ("speech.wav", b"RIFF" + b"\1" * 5000, "audio/wav")


@pytest.fixture
async def client(bridge: str) -> AsyncIterator[AsyncOpenAI]:
    http_client = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncOpenAI(api_key="sk-1", base_url=f"{bridge}/v1", max_retries=0, http_client=http_client) as made:
        yield made


async def test_json_is_text_and_usage(client: AsyncOpenAI, service: Running) -> None:
    answer = await client.audio.transcriptions.create(file=FILE, model="whisper-1", language="en", prompt="Names: Ada")

    assert answer.text == TEXT
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"type": "duration", "seconds": 4.5}
    assert set(answer.to_dict()) == {"text", "usage"}
    (upload,) = service.fake.uploads
    assert bytes(upload.data) == FILE[1]
    assert (upload.config.model, upload.config.language, upload.config.context) == ("", "en", "Names: Ada")
    assert upload.content_type == "audio/wav"
    assert upload.metadata["authorization"] == "Bearer sk-1"


async def test_verbose_json_has_segments_and_words(client: AsyncOpenAI, service: Running) -> None:
    answer = await client.audio.transcriptions.create(
        file=FILE, model=MODEL, response_format="verbose_json", timestamp_granularities=["word", "segment"], temperature=0.5
    )

    assert (answer.text, answer.language, answer.duration) == (TEXT, "english", 4.5)
    assert answer.words is not None
    assert [(w.word, w.start, w.end) for w in answer.words[:2]] == [("Hello", 0.0, 0.4), ("brave", 0.4, 0.9)]
    assert answer.segments is not None
    first, second = answer.segments
    assert (first.id, first.start, first.end, first.text) == (0, 0.0, 1.8, "Hello brave new world.")
    assert (first.avg_logprob, first.no_speech_prob, first.temperature) == (-0.6931, 0.25, 0.5)
    assert 0 < first.compression_ratio < 2
    assert (second.id, second.start, second.no_speech_prob, second.tokens) == (1, 3.0, 0.0, [])
    config = service.fake.uploads[0].config
    assert (config.model, config.word_times, config.temperature) == (MODEL, True, 0.5)


async def test_verbose_json_gives_words_only_when_asked(client: AsyncOpenAI, service: Running) -> None:
    answer = await client.audio.transcriptions.create(file=FILE, model="whisper-1", response_format="verbose_json")

    assert answer.words is None
    assert answer.segments is not None
    assert not service.fake.uploads[0].config.word_times


async def test_text_srt_and_vtt(client: AsyncOpenAI, service: Running) -> None:
    text = await client.audio.transcriptions.create(file=FILE, model="whisper-1", response_format="text")
    srt = await client.audio.transcriptions.create(file=FILE, model="whisper-1", response_format="srt")
    vtt = await client.audio.transcriptions.create(file=FILE, model="whisper-1", response_format="vtt")

    assert text == TEXT + "\n"
    assert srt == (
        "1\n00:00:00,000 --> 00:00:01,800\nHello brave new world.\n\n2\n00:00:03,000 --> 00:00:04,000\nGood night.\n\n"
    )
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.800\nHello brave new world.\n\n")
    assert [u.config.word_times for u in service.fake.uploads] == [False, True, True]


async def test_a_chunking_strategy_becomes_voice_activity(client: AsyncOpenAI, service: Running) -> None:
    await client.audio.transcriptions.create(
        file=FILE, model="whisper-1", chunking_strategy={"type": "server_vad", "threshold": 0.7, "prefix_padding_ms": 100}
    )

    activity = service.fake.uploads[0].config.voice_activity
    assert (round(activity.threshold, 3), activity.prefix_padding_ms, activity.silence_ms) == (0.7, 100, 200)


async def test_the_synchronous_client_works_too(bridge: str) -> None:
    def transcribe() -> str:
        http_client = DefaultHttpxClient(trust_env=False)
        with OpenAI(api_key="k", base_url=f"{bridge}/v1", http_client=http_client) as client:
            return client.audio.transcriptions.create(file=FILE, model="whisper-1").text

    assert await asyncio.to_thread(transcribe) == TEXT


async def test_the_request_id_is_exposed(client: AsyncOpenAI, service: Running) -> None:
    made = await client.audio.transcriptions.create(file=FILE, model="whisper-1")
    own = await client.audio.transcriptions.create(file=FILE, model="whisper-1", extra_headers={"x-request-id": "mine-7"})

    assert made._request_id
    assert own._request_id == "mine-7"
    assert [u.metadata["x-request-id"] for u in service.fake.uploads] == [made._request_id, "mine-7"]


FAILURES = [
    (Failure("INVALID_ARGUMENT", "AUDIO_UNDECODABLE"), openai.BadRequestError, 400, "unsupported_format", "file"),
    (Failure("INVALID_ARGUMENT", "AUDIO_TRUNCATED", after_bytes=None), openai.BadRequestError, 400, "corrupt_audio", "file"),
    (Failure("INVALID_ARGUMENT", "UNKNOWN_LANGUAGE"), openai.BadRequestError, 400, "invalid_value", "language"),
    (
        Failure("INVALID_ARGUMENT", "INVALID_VALUE", field="config.context"),
        openai.BadRequestError,
        400,
        "invalid_value",
        "prompt",
    ),
    (Failure("FAILED_PRECONDITION", "LANGUAGE_UNAVAILABLE"), openai.BadRequestError, 400, "language_unavailable", "language"),
    (Failure("NOT_FOUND", "MODEL_NOT_FOUND"), openai.NotFoundError, 404, "model_not_found", "model"),
    (Failure("INVALID_ARGUMENT", "AUDIO_TOO_LARGE"), openai.APIStatusError, 413, "file_too_large", "file"),
    (Failure("UNAUTHENTICATED", "API_KEY_MISSING"), openai.AuthenticationError, 401, "invalid_api_key", None),
    (Failure("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after_s=1.2), openai.RateLimitError, 429, "rate_limit_exceeded", None),
    (Failure("DEADLINE_EXCEEDED", "DEADLINE"), openai.InternalServerError, 504, "timeout", None),
    (Failure("UNIMPLEMENTED", "NOT_IMPLEMENTED"), openai.InternalServerError, 501, "not_implemented", None),
    (Failure("INTERNAL", "INTERNAL", "secret path /x"), openai.InternalServerError, 500, "internal_error", None),
]


@pytest.mark.parametrize("is_in_stream", [False, True])
@pytest.mark.parametrize(("failure", "kind", "status", "code", "param"), FAILURES, ids=lambda f: getattr(f, "reason", None))
async def test_failures_are_the_sdks_own_errors(
    client: AsyncOpenAI,
    service: Running,
    failure: Failure,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    param: str | None,
    is_in_stream: bool,
) -> None:
    failure = Failure(**{**vars(failure), "is_in_stream": is_in_stream})
    service.fake.failures = [failure]

    with pytest.raises(kind) as caught:
        await client.audio.transcriptions.create(file=FILE, model="whisper-1")

    assert (caught.value.status_code, caught.value.code) == (status, code)
    if not (is_in_stream and failure.field):
        assert caught.value.param == param
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert "secret" not in caught.value.message
    assert caught.value.request_id


async def test_overload_says_when_to_come_back(client: AsyncOpenAI, service: Running) -> None:
    service.fake.failures = [Failure("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after_s=1.2)]

    with pytest.raises(openai.RateLimitError) as caught:
        await client.audio.transcriptions.create(file=FILE, model="whisper-1")

    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.type == "rate_limit_error"


async def test_models_can_be_listed_and_looked_up(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    found = await client.models.retrieve(MODEL)
    alias = await client.models.retrieve("whisper-1")

    assert listed[0] == MODEL
    assert "whisper-1" in listed
    assert (found.id, found.object, found.created, found.owned_by) == (MODEL, "model", 1_700_000_000, "tests")
    assert alias.id == "whisper-1"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("no/such")
    assert caught.value.code == "model_not_found"


async def test_keys_are_checked_by_the_service(service: Running) -> None:
    service.fake.required_key = "right"
    http_client = DefaultAsyncHttpxClient(trust_env=False)
    async with (
        bridge_to(service.target, api_keys="right") as url,
        AsyncOpenAI(api_key="wrong", base_url=f"{url}/v1", http_client=http_client) as client,
    ):
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
        with pytest.raises(openai.AuthenticationError):
            await client.audio.transcriptions.create(file=FILE, model="whisper-1")
        assert (await client.with_options(api_key="right").audio.transcriptions.create(file=FILE, model="m")).text == TEXT
