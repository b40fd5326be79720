"""`asr subtitles`: a recording goes up, its subtitles come out; live, each as it is settled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from asr_service.cli import exit_codes
from asr_service.cli.complaints import complaint
from asr_service.cli.output import STDIN, UsageError, write_whole
from asr_service.cli.progress import Progress, shown_progress
from asr_service.cli.stdin import descriptor_chunks
from asr_service.cli.target import ABSENT, ServiceAbsent, ready_client
from asr_service.client import (
    AsrClient,
    AsrClientError,
    CueRules,
    RecognitionConfig,
    SubtitleFile,
    SubtitleFormat,
    SubtitleMode,
    SubtitlesResponse,
    SubtitleWish,
)
from asr_service.subtitles import VTT_HEADER, Cue, to_srt, vtt_blocks

FORMATS = {
    "srt": SubtitleFormat.SUBTITLE_FORMAT_SRT,
    "vtt": SubtitleFormat.SUBTITLE_FORMAT_VTT,
    "json": SubtitleFormat.SUBTITLE_FORMAT_JSON,
    "ass": SubtitleFormat.SUBTITLE_FORMAT_ASS,
}
MODES = {"accurate": SubtitleMode.SUBTITLE_MODE_ACCURATE, "fast": SubtitleMode.SUBTITLE_MODE_FAST}
_LIVE_FORMATS = ("srt", "vtt")


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed. None: not given."""

    form: str | None = None
    mode: str | None = None
    language: str | None = None
    context: str = ""
    live: bool = False
    max_line_chars: int | None = None
    max_lines: int | None = None
    max_duration_s: float | None = None
    min_duration_s: float | None = None
    min_gap_s: float | None = None
    pause_s: float | None = None
    max_chars_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make of which file. `output` None: standard output."""

    file: str
    output: Path | None
    form: str
    wish: SubtitleWish
    timeout_s: float

    @classmethod
    def of(cls, file: str, output: Path | None, options: Options, timeout_s: float) -> Wanted:
        """Raises UsageError."""
        form = options.form or _form_of(output)
        if options.live and (output is not None or form not in _LIVE_FORMATS):
            raise UsageError("--live writes srt or vtt to standard output")
        wish = SubtitleWish(
            config=RecognitionConfig(language=options.language, context=options.context),
            subtitle_format=FORMATS[form],
            mode=MODES[options.mode] if options.mode else SubtitleMode.SUBTITLE_MODE_UNSPECIFIED,
            rules=_rules(options),
            live=options.live,
        )
        return cls(file, output, form, wish, timeout_s)


async def make_subtitles(wanted: Wanted, *, server: str | None, api_key: str | None, wait_s: float) -> int:
    """Returns the exit code."""
    try:
        async with ready_client(server, api_key, wait_s) as client:
            with shown_progress() as progress:
                outcome = await _made(client, wanted, progress)
    except ServiceAbsent as error:
        sys.stderr.write(f"asr: {error}\n")
        return exit_codes.NOT_READY
    if isinstance(outcome, SubtitleFile):
        try:
            _write(outcome, wanted)
        except OSError as error:
            outcome = error
        else:
            return exit_codes.OK
    sys.stderr.write(f"{wanted.file}: {complaint(outcome)}\n")
    is_absent = isinstance(outcome, AsrClientError) and outcome.reason in ABSENT
    return exit_codes.NOT_READY if is_absent else exit_codes.FAILED


async def _made(client: AsrClient, wanted: Wanted, progress: Progress) -> SubtitleFile | AsrClientError | OSError:
    file = SubtitleFile()
    source = descriptor_chunks(sys.stdin.fileno()) if wanted.file == STDIN else Path(wanted.file)
    live = _LiveWriter(wanted.form, sys.stdout.write) if wanted.wish.live else None
    try:
        async with aclosing(client.subtitles(source, wanted.wish, timeout_s=wanted.timeout_s)) as events:
            async for event in events:
                file.feed(event)
                progress.update(wanted.file, file.processed_ms, file.total_ms, file.newest_text)
                if live is not None:
                    with progress.aside():
                        live.feed(event)
    except (AsrClientError, OSError) as error:
        return error
    finally:
        progress.finish(wanted.file)
    if file.completed is None:
        return AsrClientError("INTERNAL", "", "the service ended the call without a file")
    return file


class _LiveWriter:
    """Cues as they come; put together they are the file."""

    def __init__(self, form: str, write: Callable[[str], object]) -> None:
        self._is_vtt = form == "vtt"
        self._write = write

    def feed(self, event: SubtitlesResponse) -> None:
        match event.WhichOneof("event"):
            case "started" if self._is_vtt:
                self._show(VTT_HEADER)
            case "cue":
                cue = Cue(event.cue.start_ms, event.cue.end_ms, tuple(event.cue.lines), event.cue.language.code)
                self._show(vtt_blocks([cue]) if self._is_vtt else to_srt([cue], first=event.cue.index))

    def _show(self, text: str) -> None:
        self._write(text)
        sys.stdout.flush()


def _write(file: SubtitleFile, wanted: Wanted) -> None:
    """Raises OSError."""
    for warning in file.warnings:
        sys.stderr.write(f"{wanted.file}: warning: {warning.message}\n")
    text = file.completed.file.data.decode() if file.completed is not None else ""
    if wanted.output is not None:
        write_whole(wanted.output, text)
    elif not wanted.wish.live:
        sys.stdout.write(text)
        sys.stdout.flush()


def _form_of(output: Path | None) -> str:
    """By the file's name. Raises UsageError."""
    if output is None:
        return "srt"
    form = output.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(f"--output {output} does not say the format by its name ({_or(list(FORMATS))}); give --format")
    return form


def _rules(options: Options) -> CueRules:
    return CueRules(
        max_line_chars=options.max_line_chars,
        max_lines=options.max_lines,
        max_duration_ms=_ms(options.max_duration_s),
        min_duration_ms=_ms(options.min_duration_s),
        min_gap_ms=_ms(options.min_gap_s),
        pause_threshold_ms=_ms(options.pause_s),
        max_chars_per_second=options.max_chars_per_second,
    )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
