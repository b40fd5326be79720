"""Subtitles over real gRPC."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from asr_service.cli import exit_codes
from asr_service.cli.output import UsageError
from asr_service.cli.subtitles import FORMATS, Options, Wanted, make_subtitles
from asr_service.client import AsrClient, AsrClientError, CueRules, SubtitleFile, SubtitleFormat, SubtitleMode, SubtitleWish
from asr_service.client.late_status import await_late_status
from asr_service.errors import LanguageUnavailable
from asr_service.grpc_api import servicer
from asr_service.grpc_api.subtitles import SubtitlesCall, WordAligner
from asr_service.pb.asr.v1.subtitles_pb2 import SubtitlesCompleted, SubtitlesRequest, SubtitlesResponse
from asr_service.request import SegmentResult, Word
from tests.wire.conftest import PCM, SAMPLE, Served, served, silence, speech
from tests.wire.test_transcribe import reason_of
from tests.wire.test_upload import sample_pcm


def pieces(audio: bytes, size: int = 10_000, **first: Any) -> list[SubtitlesRequest]:
    return [
        SubtitlesRequest(audio=HttpBody(data=audio[at : at + size]), **(first if at == 0 else {}))
        for at in range(0, max(len(audio), 1), size)
    ]


async def stream(messages: list[SubtitlesRequest]) -> AsyncIterator[SubtitlesRequest]:
    for message in messages:
        yield message


async def subtitles(service: Served, messages: list[SubtitlesRequest]) -> list[SubtitlesResponse]:
    return [event async for event in service.stub.Subtitles(stream(messages))]


async def failure(service: Served, messages: list[SubtitlesRequest]) -> tuple[list[SubtitlesResponse], grpc.aio.AioRpcError]:
    events: list[SubtitlesResponse] = []
    call = service.stub.Subtitles(stream(messages))
    await_late_status(call)
    try:
        async for event in call:
            events.append(event)  # noqa: PERF401  # a comprehension would lose them
    except grpc.aio.AioRpcError as error:
        return events, error
    pytest.fail("the call succeeded")


def talk(n: int) -> bytes:
    """Speech of about five seconds, n times, with long pauses between."""
    return b"".join([sample_pcm(), silence(3)] * n)


async def test_cues_come_in_order_and_then_the_file(service: Served) -> None:
    events = await subtitles(service, pieces(await asyncio.to_thread(talk, 5), format=PCM))

    kinds = [event.WhichOneof("event") for event in events]
    cues = [event.cue for event in events if event.HasField("cue")]
    completed = events[-1].completed
    assert [event.seq for event in events] == list(range(len(events)))
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("started", "completed", {"cue", "progress"})
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    assert all(a.end_ms + 83 <= b.start_ms for a, b in pairwise(cues))
    assert completed.cue_count == len(cues)
    assert completed.file.content_type == "application/x-subrip"
    assert completed.file.data.decode().count(" --> ") == len(cues)
    assert {cue.language.name for cue in cues} == {"English"}
    progress = [event.progress for event in events if event.HasField("progress")]
    assert all(a.processed_ms <= b.processed_ms for a, b in pairwise(progress))
    assert progress[-1].total_ms == completed.duration_ms


async def test_as_many_words_come_out_as_went_in(service: Served) -> None:
    audio = await asyncio.to_thread(talk, 3)
    async with AsrClient(service.running.address) as client:
        said = [e.segment.text async for e in client.transcribe_upload(_once(audio), audio_format=PCM) if e.HasField("segment")]
        shown = [e.cue.lines async for e in client.subtitles(_once(audio), audio_format=PCM) if e.HasField("cue")]

    assert " ".join(" ".join(lines) for lines in shown).split() == " ".join(said).split()


async def test_defaults_are_filled_in(service: Served) -> None:
    started = (await subtitles(service, pieces(speech(), rules={"max_line_chars": 30})))[0].started

    assert started.effective_rules == CueRules(
        max_line_chars=30,
        max_lines=2,
        max_duration_ms=7000,
        min_duration_ms=833,
        min_gap_ms=83,
        pause_threshold_ms=500,
        max_chars_per_second=20,
    )
    assert started.effective_mode == SubtitleMode.SUBTITLE_MODE_FAST
    assert started.engine.name == "fake"


async def test_rules_are_kept(service: Served) -> None:
    audio = await asyncio.to_thread(talk, 2)

    events = await subtitles(service, pieces(audio, format=PCM, rules={"max_line_chars": 12, "max_lines": 1}))

    assert all(len(e.cue.lines) == 1 and len(e.cue.lines[0]) <= 12 for e in events if e.HasField("cue"))


async def test_every_format_is_the_same_cues(service: Served) -> None:
    files: dict[str, SubtitlesCompleted] = {}
    for name in ("SRT", "VTT", "JSON", "ASS"):
        form = SubtitleFormat.Value(f"SUBTITLE_FORMAT_{name}")
        files[name] = (await subtitles(service, pieces(speech(), subtitle_format=form)))[-1].completed

    assert len(json.loads(files["JSON"].file.data)) == files["JSON"].cue_count > 0
    for name, demuxer in (("SRT", "srt"), ("VTT", "webvtt"), ("ASS", "ass")):
        with av.open(io.BytesIO(files[name].file.data), "r", demuxer) as container:
            assert sum(packet.size > 0 for packet in container.demux()) == files["JSON"].cue_count


async def test_silence_is_an_empty_file_without_an_engine_call(service: Served) -> None:
    events = await subtitles(service, pieces(silence(20), format=PCM))

    assert events[-1].completed.cue_count == 0
    assert events[-1].completed.file.data == b""
    assert service.running.engine.calls == 0


async def test_live_cues_come_after_each_pause_while_the_stream_goes_on(service: Served) -> None:
    samples = await asyncio.to_thread(sample_pcm)
    came = asyncio.Event()

    async def spoken() -> AsyncIterator[bytes]:
        yield samples
        yield silence(2)
        await came.wait()  # nothing more is said before its cue was seen
        yield samples

    async with AsrClient(service.running.address) as client:
        cues = []
        async for event in client.subtitles(spoken(), SubtitleWish(live=True), audio_format=PCM):
            if event.HasField("cue"):
                cues.append(event.cue)
                came.set()

    assert cues[0].end_ms <= len(samples) // 32 + 1000
    assert all(a.end_ms + 83 <= b.start_ms for a, b in pairwise(cues))


@pytest.mark.parametrize(
    ("first", "field"),
    [
        ({"rules": {"max_line_chars": 5}}, "rules.max_line_chars"),
        ({"rules": {"min_duration_ms": 3000, "max_duration_ms": 2000}}, "rules.min_duration_ms"),
        ({"rules": {"max_chars_per_second": float("nan")}}, "rules.max_chars_per_second"),
        ({"subtitle_format": 9}, "subtitle_format"),
        ({"mode": 9}, "mode"),
    ],
    ids=["narrow", "contradiction", "nan", "format", "mode"],
)
async def test_a_wrong_value_is_named_before_any_event(service: Served, first: dict[str, Any], field: str) -> None:
    events, status = await failure(service, pieces(speech(), **first))

    assert not events
    assert status.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (status.details() or "")


async def test_accurate_without_an_aligner_says_so(service: Served) -> None:
    events, status = await failure(service, pieces(speech(), mode=SubtitleMode.SUBTITLE_MODE_ACCURATE))

    assert not events
    assert status.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(status) == "FEATURE_UNAVAILABLE"


class LateAligner:
    """Every word of a segment is said in its last second."""

    n_calls = 0

    async def align(self, result: SegmentResult) -> tuple[Word, ...]:
        self.n_calls += 1
        end_ms = result.speech.end_ms
        return tuple(Word(text, end_ms - 1000, end_ms) for text in result.hypothesis.text.split())


class NoAligner:
    """Of a language that is not this one's."""

    async def align(self, result: SegmentResult) -> tuple[Word, ...]:
        raise LanguageUnavailable("no alignment of English here")


def load(monkeypatch: pytest.MonkeyPatch, aligner: WordAligner) -> None:
    """From now on the service has it."""
    monkeypatch.setattr(
        servicer, "SubtitlesCall", lambda service, call, context, _: SubtitlesCall(service, call, context, aligner)
    )


async def test_an_aligner_is_the_default_and_gives_the_times(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    aligner = LateAligner()
    load(monkeypatch, aligner)

    accurate = await subtitles(service, pieces(speech()))
    fast = await subtitles(service, pieces(speech(), mode=SubtitleMode.SUBTITLE_MODE_FAST))

    first_ms, fast_ms = (next(e.cue.start_ms for e in events if e.HasField("cue")) for events in (accurate, fast))
    assert accurate[0].started.effective_mode == SubtitleMode.SUBTITLE_MODE_ACCURATE
    assert first_ms > fast_ms + 1000
    assert aligner.n_calls == 1


async def test_what_cannot_be_aligned_is_a_warning_and_fast(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = await asyncio.to_thread(talk, 3)
    fast = await subtitles(service, pieces(audio, format=PCM))
    load(monkeypatch, NoAligner())

    events = await subtitles(service, pieces(audio, format=PCM))

    (warning,) = (event.warning for event in events if event.HasField("warning"))
    assert warning.field == "mode"
    assert "no alignment of English here" in warning.message
    assert events[-1].completed.file == fast[-1].completed.file


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "AUDIO_EMPTY"),
        ([*pieces(speech()), SubtitlesRequest(rules=CueRules(max_lines=1))], "MESSAGE_ORDER"),
        ([*pieces(speech()), SubtitlesRequest(live=True)], "MESSAGE_ORDER"),
        (pieces(b"<!DOCTYPE html><html>" + bytes(1000)), "AUDIO_UNDECODABLE"),
        (pieces(speech()[:60_000]), "AUDIO_TRUNCATED"),
    ],
    ids=["nothing", "late rules", "late live", "html", "truncated"],
)
async def test_a_fault_is_the_last_event_and_the_status(service: Served, messages: list[SubtitlesRequest], reason: str) -> None:
    events, status = await failure(service, messages)

    assert events[-1].error.reason == reason == reason_of(status)
    assert events[0].HasField("started")


async def test_a_source_that_fails_is_the_callers_own_exception(service: Served) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield speech()[:1000]
        raise OSError("the disk is gone")

    async with AsrClient(service.running.address) as client:
        with pytest.raises(OSError, match="the disk is gone"):
            async for _ in client.subtitles(broken()):
                pass


async def test_a_client_that_leaves_frees_its_place(service: Served) -> None:
    service.controls.hold()
    async with AsrClient(service.running.address) as client:
        async with aclosing(client.subtitles(SAMPLE)) as events:
            assert (await anext(events)).HasField("started")
            assert (await client.server_info()).load.requests == 1
        while (await client.server_info()).load.requests:
            pass


async def test_the_client_collects_the_file(service: Served) -> None:
    file = SubtitleFile()
    async with AsrClient(service.running.address) as client:
        async for event in client.subtitles(SAMPLE, SubtitleWish(subtitle_format=SubtitleFormat.SUBTITLE_FORMAT_VTT)):
            file.feed(event)

    assert file.completed is not None
    assert file.completed.file.data.startswith(b"WEBVTT\n\n00:00:0")
    assert file.newest_text
    assert file.processed_ms == file.total_ms == file.completed.duration_ms


async def test_keys_are_wanted_where_there_are_keys() -> None:
    async with served(api_keys=("right",)) as service, AsrClient(service.running.address, api_key="wrong") as client:
        with pytest.raises(AsrClientError, match="API_KEY_INVALID"):
            async for _ in client.subtitles(SAMPLE):
                pass


async def command(service: Served, file: str | Path, output: Path | None = None, **options: Any) -> int:
    wanted = Wanted.of(str(file), output, Options(**options), timeout_s=60.0)
    return await make_subtitles(wanted, server=service.running.address, api_key=None, wait_s=10.0)


async def test_the_command_writes_the_file_its_name_asks_for(service: Served, tmp_path: Path) -> None:
    assert await command(service, SAMPLE, tmp_path / "out" / "talk.vtt", max_line_chars=20) == exit_codes.OK
    assert await command(service, SAMPLE, tmp_path / "talk.txt", form="json") == exit_codes.OK

    vtt = (tmp_path / "out" / "talk.vtt").read_text()
    assert vtt.startswith("WEBVTT\n\n00:00:")
    assert max(len(line) for line in vtt.splitlines() if "-->" not in line) <= 20
    assert json.loads((tmp_path / "talk.txt").read_text())[0]["index"] == 1


@pytest.mark.parametrize("form", ["srt", "vtt"])
async def test_live_cues_together_are_the_file(service: Served, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command(service, SAMPLE, form=form, live=True) == exit_codes.OK
    shown = capsys.readouterr().out
    wish = SubtitleWish(subtitle_format=FORMATS[form], live=True)
    async with AsrClient(service.running.address) as client:
        events = [event async for event in client.subtitles(SAMPLE, wish)]

    assert shown == events[-1].completed.file.data.decode()


async def test_the_command_says_what_is_wrong_in_one_line(
    service: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command(service, SAMPLE, min_gap_s=2.0) == exit_codes.FAILED
    assert await command(service, SAMPLE, mode="accurate") == exit_codes.FAILED
    assert await command(service, tmp_path / "none.wav") == exit_codes.FAILED

    narrow, accurate, missing = capsys.readouterr().err.splitlines()
    assert narrow == f"{SAMPLE}: rules.min_gap_ms: 2000 is outside 0 to 1000"
    assert "needs the forced aligner" in accurate
    assert missing == f"{tmp_path / 'none.wav'}: no such file or directory"


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        ("talk.txt", {}, "give --format"),
        ("talk.srt", {"live": True}, "--live writes srt or vtt to standard output"),
        (None, {"live": True, "form": "ass"}, "--live writes srt or vtt to standard output"),
    ],
)
def test_options_that_do_not_go_together_are_refused(output: str | None, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Wanted.of("talk.wav", Path(output) if output else None, Options(**options), timeout_s=60.0)


async def _once(audio: bytes) -> AsyncIterator[bytes]:
    yield audio
