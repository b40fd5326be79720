"""Cues as SubRip (SRT) and WebVTT files."""

from __future__ import annotations

from collections.abc import Iterable

from asr_service.subtitles.cues import Cue


def to_srt(cues: Iterable[Cue]) -> str:
    """SubRip: numbered from 1, a blank line after each cue. No cues: the empty file.

    SRT has no escapes; an arrow in the text, which readers would take for a time line, becomes a typographic one.
    """
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{cue.text.replace('-->', '→')}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def to_vtt(cues: Iterable[Cue]) -> str:
    """WebVTT: header, then the cues; `&`, `<` and `>` (so `-->` too) are escaped."""
    blocks = (f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_escape(cue.text)}\n\n" for cue in cues)
    return "WEBVTT\n\n" + "".join(blocks)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(time_ms: int, point: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"
