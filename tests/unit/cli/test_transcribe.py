"""`asr transcribe` against a scripted service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from asr_service.cli import exit_codes
from asr_service.cli.output import Sink
from asr_service.cli.transcribe import Wanted, transcribe_files
from tests.unit.client.scripted import NOT_SERVING, SERVING, Scripted, refused, scripted


@pytest.fixture
async def running() -> AsyncIterator[Scripted]:
    async with scripted() as service:
        await service.health.set("", SERVING)
        yield service


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    """Three recordings; the scripted service hears a recording's bytes as its text."""
    paths = [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]
    for path, text in zip(paths, ("alpha one", "bravo two", "charlie three"), strict=True):
        path.write_text(text)
    return [str(p) for p in paths]


async def run(
    running: Scripted, files: list[str], form: str = "text", output: Path | None = None, jobs: int = 4, wait_s: float = 10.0
) -> int:
    wanted = Wanted.of(form, "en", "", words=False, timeout_s=60.0)
    return await transcribe_files(
        files, wanted, Sink.of(files, form, output), jobs=jobs, server=running.target, api_key="k", wait_s=wait_s
    )


async def test_one_file_is_its_text_alone(running: Scripted, clips: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = await run(running, clips[:1])

    assert (code, capsys.readouterr().out) == (exit_codes.OK, "alpha one\n")
    assert running.service.configs[0].language == "en"
    assert running.service.metadata[0]["authorization"] == "Bearer k"


@pytest.mark.parametrize("jobs", [1, 3])
async def test_several_files_come_in_the_order_given(
    running: Scripted, clips: list[str], capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    code = await run(running, clips, jobs=jobs)

    lines = capsys.readouterr().out.splitlines()
    assert code == exit_codes.OK
    assert lines == [f"{clips[0]}: alpha one", f"{clips[1]}: bravo two", f"{clips[2]}: charlie three"]


async def test_a_bad_file_is_one_line_and_the_others_go_on(
    running: Scripted, clips: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    running.service.failures[b"bravo two"] = refused(
        grpc.StatusCode.INVALID_ARGUMENT, "AUDIO_UNDECODABLE", "these bytes look like\nplain text"
    )

    code = await run(running, clips)

    printed = capsys.readouterr()
    assert code == exit_codes.FAILED
    assert printed.err == f"{clips[1]}: not audio: these bytes look like plain text\n"
    assert len(printed.out.splitlines()) == 2


async def test_a_missing_file_is_one_line(running: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(tmp_path / "none.wav")

    assert await run(running, [name]) == exit_codes.FAILED
    assert capsys.readouterr().err == f"{name}: no such file or directory\n"


async def test_json_is_one_object_a_line(running: Scripted, clips: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    await run(running, clips[:2], form="json")

    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["file"], first["text"], first["duration_ms"]) == (clips[0], "alpha one", 1000)
    assert second["segments"][1]["text"] == "two"


async def test_subtitles_ask_for_word_times(running: Scripted, clips: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    await run(running, clips[:1], form="srt")

    assert "00:00:00,000 --> " in capsys.readouterr().out
    assert running.service.configs[0].word_times


async def test_output_goes_to_a_folder_under_each_name(running: Scripted, clips: list[str], tmp_path: Path) -> None:
    await run(running, clips, form="vtt", output=tmp_path / "out")

    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.vtt", "b.vtt", "c.vtt"]
    assert (tmp_path / "out" / "a.vtt").read_text().startswith("WEBVTT")


async def test_an_unwritable_output_is_a_failed_file(
    running: Scripted, clips: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")

    code = await run(running, clips[:1], output=in_the_way / "deeper" / "a.txt")

    assert code == exit_codes.FAILED
    assert "not a directory" in capsys.readouterr().err


async def test_a_service_that_is_not_ready_is_exit_code_3(
    running: Scripted, clips: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    await running.health.set("", NOT_SERVING)

    code = await run(running, clips, wait_s=0.2)

    assert code == exit_codes.NOT_READY
    assert "NOT_SERVING" in capsys.readouterr().err
