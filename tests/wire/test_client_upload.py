"""The Python client's uploads over connections that are cut anywhere: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest

from asr_service.client import AsrClient, AsrClientError, AudioEncoding, AudioFormat, UploadTranscript, upload_source
from tests.wire.conftest import served
from tests.wire.cutting import cutting
from tests.wire.test_upload_resume import n_inside, talk, until_inside

RAW = AudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
_FIRST_BYTES = 2_000  # of a connection: HTTP/2's own, and the headers
_PIECE = 30_000


async def pieces(audio: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(audio), _PIECE):
        yield audio[at : at + _PIECE]


async def transcribed(address: str, source: AsyncIterator[bytes] | Path) -> tuple[UploadTranscript, list[int]]:
    """The transcript, and the numbers of the events."""
    transcript, seqs = UploadTranscript(), []
    async with AsrClient(address) as client:
        async for event in client.transcribe_upload(source, audio_format=RAW):
            transcript.feed(event)
            seqs.append(event.seq)
    return transcript, seqs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_file", [True, False], ids=["file", "pieces"])
async def test_connections_cut_anywhere_lose_nothing(seed: int, is_file: bool, tmp_path: Path) -> None:
    audio = await asyncio.to_thread(talk)
    path = tmp_path / "talk.raw"
    path.write_bytes(audio)
    random = Random(seed)  # noqa: S311  # reproducible on purpose
    budgets = [_FIRST_BYTES + random.randrange(len(audio) // 3) for _ in range(4)]
    async with served() as service, cutting(service.running.address, budgets) as proxy:
        whole, _ = await transcribed(service.running.address, path)

        transcript, seqs = await transcribed(proxy.address, path if is_file else pieces(audio))

        assert proxy.n_cut > 0
        assert transcript.text == whole.text
        assert [s.text for s in transcript.segments] == [s.text for s in whole.segments]
        assert transcript.completed.duration_ms == len(audio) // 32
        assert seqs == sorted(set(seqs))
        assert await n_inside(service) == 0


async def test_another_replica_gets_a_file_anew(tmp_path: Path) -> None:
    audio = await asyncio.to_thread(talk)
    path = tmp_path / "talk.raw"
    path.write_bytes(audio)
    async with served() as one, served() as two, cutting(one.running.address, [len(audio) // 2]) as proxy:
        whole, _ = await transcribed(one.running.address, path)
        transcript, starts = UploadTranscript(), 0
        async with AsrClient(proxy.address) as client:
            async for event in client.transcribe_upload(path, audio_format=RAW):
                transcript.feed(event)
                starts += event.HasField("started")
                proxy.target = two.running.address

    assert starts == 2
    assert transcript.text == whole.text
    assert [s.index for s in transcript.segments] == list(range(len(whole.segments)))


async def test_what_is_kept_no_more_cannot_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = await asyncio.to_thread(talk)
    monkeypatch.setattr(upload_source, "KEPT_BYTES", 1)
    async with served() as one, served() as two, cutting(one.running.address, [len(audio) // 2]) as proxy:

        async def use() -> None:
            async with AsrClient(proxy.address) as client:
                async for _ in client.transcribe_upload(pieces(audio), audio_format=RAW):
                    proxy.target = two.running.address  # which has nothing of it

        with pytest.raises(AsrClientError) as caught:
            await use()

    assert caught.value.reason == "RESUME_WINDOW_GONE"


async def test_a_reader_that_stops_early_leaves_nothing_at_the_service() -> None:
    audio = await asyncio.to_thread(talk)
    async with served() as service, AsrClient(service.running.address) as client:
        async with aclosing(client.transcribe_upload(_endless(audio), audio_format=RAW)) as events:
            async for event in events:
                if event.HasField("segment"):
                    break

        await until_inside(service, 0)


async def test_with_a_key_of_its_own_it_waits_for_somebody_else() -> None:
    audio = await asyncio.to_thread(talk)
    async with served() as service, AsrClient(service.running.address) as client:
        whole, _ = await transcribed(service.running.address, pieces(audio))
        first, second = UploadTranscript(), UploadTranscript()
        async with aclosing(
            client.transcribe_upload(_endless(audio[:300_000]), audio_format=RAW, idempotency_key="k")
        ) as events:
            async for event in events:
                first.feed(event)
                if event.HasField("segment"):
                    break
        async for event in client.transcribe_upload(pieces(audio), audio_format=RAW, idempotency_key="k"):
            second.feed(event)

    assert second.text == whole.text
    assert [s.text for s in second.segments] == [s.text for s in whole.segments]


async def test_a_refusal_is_not_tried_again() -> None:
    async with served() as service, AsrClient(service.running.address) as client:
        with pytest.raises(AsrClientError) as caught:
            async for _ in client.transcribe_upload(pieces(b"<!DOCTYPE html>" + bytes(1000))):
                pass

    assert caught.value.reason == "AUDIO_UNDECODABLE"


async def _endless(audio: bytes) -> AsyncIterator[bytes]:
    async for piece in pieces(audio):
        yield piece
    await asyncio.Event().wait()
