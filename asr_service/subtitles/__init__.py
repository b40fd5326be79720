"""Words with times in, subtitle files out. Pure: no I/O. Shared with the bridge, so light: ICU and a writer of ASS."""

from asr_service.subtitles.cue import Cue, SubtitleSegment, SubtitleWord
from asr_service.subtitles.cues import CueMaker, make_cues
from asr_service.subtitles.formats import VTT_HEADER, to_json, to_srt, to_vtt, vtt_blocks
from asr_service.subtitles.rules import BadRule, CueRules

__all__ = [
    "VTT_HEADER",
    "BadRule",
    "Cue",
    "CueMaker",
    "CueRules",
    "SubtitleSegment",
    "SubtitleWord",
    "make_cues",
    "to_json",
    "to_srt",
    "to_vtt",
    "vtt_blocks",
]
