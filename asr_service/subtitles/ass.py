"""Cues as an Advanced SubStation Alpha file, by pysubs2: its header, styles and times."""

from __future__ import annotations

from collections.abc import Iterable

from pysubs2 import SSAEvent, SSAFile

from asr_service.subtitles.cue import Cue

_AUTO_DIRECTION = -1  # an encoding that tells renderers to find the direction of the text
_WORD_JOINER = "\u2060"


def to_ass(cues: Iterable[Cue]) -> str:
    """Times are in hundredths of a second. Braces and backslashes, which would be commands, are shown as they are."""
    file = SSAFile()
    file.info["WrapStyle"] = "2"  # lines are broken where we break them
    file.styles["Default"].encoding = _AUTO_DIRECTION
    file.events = [SSAEvent(cue.start_ms, cue.end_ms, r"\N".join(map(_escape, cue.lines))) for cue in cues]
    return file.to_string("ass")


def _escape(line: str) -> str:
    return line.replace("\\", f"\\{_WORD_JOINER}").replace("{", r"\{").replace("}", r"\}")
