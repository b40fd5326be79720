"""Words with times in, subtitle files out. Pure: no I/O, no dependency but the standard library."""

from asr_service.subtitles.cues import Cue, SubtitleSegment, SubtitleWord, make_cues
from asr_service.subtitles.formats import to_srt, to_vtt

__all__ = ["Cue", "SubtitleSegment", "SubtitleWord", "make_cues", "to_srt", "to_vtt"]
