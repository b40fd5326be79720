"""Cues as SubRip (SRT), WebVTT and JSON. (pysubs2, which writes ASS, ends SRT at 100 hours and does not escape WebVTT.)"""

from __future__ import annotations

import json
from collections.abc import Iterable

from asr_service.subtitles.cue import Cue
from asr_service.subtitles.script import is_right_to_left

_EMBED_RTL, _POP = "\u202b", "\u202c"


def to_srt(cues: Iterable[Cue], first: int = 1) -> str:
    """SubRip: numbered from `first`, a blank line after each cue. No cues: the empty file. Files can be put together.

    SRT has no escapes; an arrow in the text, which readers would take for a time line, becomes a typographic one. Players lay
    SRT out from left to right; the marks around lines of Arabic or Hebrew put their ends where they belong.
    """
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_directed(cue).replace('-->', '→')}\n\n"
        for number, cue in enumerate(cues, start=first)
    )


VTT_HEADER = "WEBVTT\n\n"


def to_vtt(cues: Iterable[Cue]) -> str:
    """WebVTT: header, then the cues; `&`, `<` and `>` (so `-->` too) are escaped."""
    return VTT_HEADER + vtt_blocks(cues)


def vtt_blocks(cues: Iterable[Cue]) -> str:
    """The file without its header. Blocks can be put together."""
    blocks = (f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_escape(cue.text)}\n\n" for cue in cues)
    return "".join(blocks)


def to_json(cues: Iterable[Cue]) -> str:
    """An array of objects, one a line: `index` from 1, `start_ms`, `end_ms`, `lines`, `language` (a code, or "")."""
    rows = (
        json.dumps(
            {"index": n, "start_ms": c.start_ms, "end_ms": c.end_ms, "lines": c.lines, "language": c.language},
            ensure_ascii=False,
        )
        for n, c in enumerate(cues, start=1)
    )
    return "[" + ",".join(f"\n{row}" for row in rows) + "\n]\n"


def _directed(cue: Cue) -> str:
    if not is_right_to_left(cue.text):
        return cue.text
    return "\n".join(f"{_EMBED_RTL}{line}{_POP}" for line in cue.lines)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(time_ms: int, point: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"
