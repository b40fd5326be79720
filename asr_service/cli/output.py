"""Where transcripts go and what they look like there."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_service.client import UploadTranscript
from asr_service.subtitles import SubtitleSegment, SubtitleWord, make_cues, to_srt, to_vtt

SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
STDIN = "-"


class UsageError(Exception):
    """The options do not go together."""


@dataclass(frozen=True, slots=True)
class Sink:
    """Standard output (no paths), or one path per file."""

    form: str
    is_single: bool
    paths: dict[str, Path]

    @classmethod
    def of(cls, files: Sequence[str], form: str, output: Path | None) -> Sink:
        if repeated := [name for name, count in Counter(files).items() if count > 1]:
            raise UsageError(f"{repeated[0]} is given more than once")
        if output is None:
            if form in ("srt", "vtt") and len(files) > 1:
                raise UsageError(f"several files as {form} need --output FOLDER")
            return cls(form, len(files) == 1, {})
        if len(files) == 1 and not output.is_dir() and not str(output).endswith(os.sep):
            return cls(form, True, {files[0]: output})
        if output.exists() and not output.is_dir():
            raise UsageError(f"--output {output} is a file; several files need a folder")
        return cls(form, len(files) == 1, _paths_in(output, files, SUFFIXES[form]))

    def put(self, name: str, transcript: UploadTranscript) -> None:
        """Writes one transcript. Raises OSError."""
        text = render(name, transcript, self.form)
        if name in self.paths:
            write_whole(self.paths[name], text)
        elif self.form == "text" and not self.is_single:
            sys.stdout.write(f"{_shown(name)}: {text}")
        else:
            sys.stdout.write(text)
        sys.stdout.flush()


def render(name: str, transcript: UploadTranscript, form: str) -> str:
    """The transcript in a format, ending with a newline."""
    if form == "text":
        return f"{transcript.text}\n"
    if form == "json":
        return json.dumps({"file": _shown(name), **transcript.as_dict()}, ensure_ascii=False) + "\n"
    segments = [
        SubtitleSegment(
            s.text,
            s.start_ms,
            s.end_ms,
            tuple(SubtitleWord(w.text, w.start_ms, w.end_ms) for w in s.words),
            s.language.code,
        )
        for s in transcript.segments
    ]
    cues = make_cues(segments)
    return to_srt(cues) if form == "srt" else to_vtt(cues)


def _shown(name: str) -> str:
    return "stdin" if name == STDIN else name


def _paths_in(folder: Path, files: Sequence[str], suffix: str) -> dict[str, Path]:
    """FILE's name with the format's suffix; where two would meet, the whole name keeps them apart."""
    stems = Counter(Path(_shown(f)).stem for f in files)
    names = {f: Path(_shown(f)).stem if stems[Path(_shown(f)).stem] == 1 else Path(_shown(f)).name for f in files}
    if clash := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise UsageError(f"two files are named {clash[0]}; write them to folders of their own")
    return {f: folder / f"{name}{suffix}" for f, name in names.items()}


def write_whole(path: Path, text: str) -> None:
    """Whole or not at all: nobody ever reads half a transcript."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".asr-", delete=False) as file:
        file.write(text)
    try:
        Path(file.name).chmod(0o666 & ~_umask())
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
