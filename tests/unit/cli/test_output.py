"""Which options go together, where files go, and what is said about failures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asr_service.cli.complaints import complaint
from asr_service.cli.output import Sink, UsageError
from asr_service.cli.progress import Bars, Lines, clock, tail
from asr_service.cli.transcribe import Wanted
from asr_service.client import UNREACHABLE, AsrClientError


def test_an_output_for_one_file_is_that_file(tmp_path: Path) -> None:
    sink = Sink.of(["clip.wav"], "text", tmp_path / "text.txt")

    assert sink.paths == {"clip.wav": tmp_path / "text.txt"}


def test_an_existing_folder_takes_one_file_under_its_name(tmp_path: Path) -> None:
    sink = Sink.of(["x/clip.wav"], "json", tmp_path)

    assert sink.paths == {"x/clip.wav": tmp_path / "clip.json"}


def test_names_that_differ_in_the_suffix_only_keep_it(tmp_path: Path) -> None:
    sink = Sink.of(["clip.wav", "clip.mp3", "-"], "srt", tmp_path)

    assert [p.name for p in sink.paths.values()] == ["clip.wav.srt", "clip.mp3.srt", "stdin.srt"]


@pytest.mark.parametrize(
    ("files", "form", "output", "why"),
    [
        (["a.wav", "a.wav"], "text", None, "more than once"),
        (["a.wav", "b.wav"], "srt", None, "need --output"),
        (["x/a.wav", "y/a.wav"], "text", "out", "two files are named a.wav"),
        (["a.wav", "b.wav"], "text", "taken", "is a file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    files: list[str], form: str, output: str | None, why: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")

    with pytest.raises(UsageError, match=why):
        Sink.of(files, form, tmp_path / output if output else None)


def test_words_need_json() -> None:
    with pytest.raises(UsageError, match="--words"):
        Wanted.of("text", None, "", words=True, timeout_s=1.0)


def test_no_language_means_absent_not_empty() -> None:
    assert not Wanted.of("text", None, "", words=False, timeout_s=1.0).config.HasField("language")


def test_a_complaint_says_when_to_try_again() -> None:
    error = AsrClientError("RESOURCE_EXHAUSTED", "OVERLOADED", "640 requests are waiting (limit 640)", 1.5)

    assert complaint(error) == "the service is busy: 640 requests are waiting (limit 640) (try again in 1.5 s)"


def test_a_prefix_is_not_said_twice() -> None:
    assert complaint(AsrClientError("INVALID_ARGUMENT", "AUDIO_UNDECODABLE", "Not audio: PDF")) == "Not audio: PDF"


def test_an_address_without_a_service_is_said_plainly() -> None:
    assert complaint(AsrClientError("UNAVAILABLE", UNREACHABLE, "refused")).startswith("the service cannot be reached")


def test_without_a_terminal_only_long_work_is_reported() -> None:
    now_s = 0.0
    written: list[str] = []
    lines = Lines(lambda: now_s, written.append)

    for now_s in (0.0, 9.0, 10.0, 15.0, 21.0):
        lines.update("a.wav", int(now_s * 1000), 65_000 if now_s > 10 else None)

    assert written == ["a.wav: 0:10 of an unknown length\n", "a.wav: 0:21 of 1:05\n"]


@pytest.mark.parametrize(
    ("text", "n_cells", "shown"),
    [
        ("good morning", 20, "good morning"),
        ("good morning", 8, "…morning"),
        ("你好世界", 5, "…世界"),
        ("a\x1b[31mb\nc\td", 20, "a [31mb c d"),
        ("anything", 0, ""),
        ("", 5, ""),
    ],
)
def test_the_end_of_a_text_is_shown_on_one_line(text: str, n_cells: int, shown: str) -> None:
    assert tail(text, n_cells) == shown


def test_hours_are_shown_when_there_are_any() -> None:
    assert (clock(123_000), clock(3_723_000)) == ("2:03", "1:02:03")


def test_bars_stay_out_of_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()

    bars.update("a.wav", 1000, None)
    bars.update("a.wav", 2000, 4000, "[red]so far")
    with bars.aside():
        sys.stdout.write("the text\n")
    bars.finish("a.wav")
    bars.finish("never-started.wav")
    bars.close()

    assert capsys.readouterr().out == "the text\n"
