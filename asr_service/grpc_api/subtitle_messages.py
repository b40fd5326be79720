"""Between the messages of Subtitles and the nouns of the subtitles package."""

from __future__ import annotations

from google.api.httpbody_pb2 import HttpBody

from asr_service.errors import FeatureUnavailable, InvalidValue
from asr_service.grpc_api import convert
from asr_service.languages import LANGUAGES
from asr_service.pb.asr.v1 import subtitles_pb2
from asr_service.request import SegmentResult, Word
from asr_service.subtitles import BadRule, Cue, CueRules, SubtitleSegment, SubtitleWord, to_json, to_srt, to_vtt
from asr_service.subtitles.ass import to_ass

_WRITERS = {
    subtitles_pb2.SUBTITLE_FORMAT_UNSPECIFIED: ("application/x-subrip", to_srt),
    subtitles_pb2.SUBTITLE_FORMAT_SRT: ("application/x-subrip", to_srt),
    subtitles_pb2.SUBTITLE_FORMAT_VTT: ("text/vtt", to_vtt),
    subtitles_pb2.SUBTITLE_FORMAT_JSON: ("application/json", to_json),
    subtitles_pb2.SUBTITLE_FORMAT_ASS: ("text/x-ssa", to_ass),
}
_RULES = tuple(field.name for field in subtitles_pb2.CueRules.DESCRIPTOR.fields)
_LANGUAGES = {language.code: language for language in LANGUAGES}


def read_rules(message: subtitles_pb2.CueRules) -> CueRules:
    """Raises InvalidValue naming the field."""
    given = {field.name: value for field, value in message.ListFields()}
    try:
        return CueRules(**given)
    except BadRule as error:
        raise InvalidValue.of(f"rules.{error.field}", error.message) from None


def read_format(value: subtitles_pb2.SubtitleFormat.ValueType) -> subtitles_pb2.SubtitleFormat.ValueType:
    """Raises InvalidValue naming the field."""
    if value not in _WRITERS:
        raise InvalidValue.of("subtitle_format", f"{value} is not a format of this version")
    return value


def read_mode(value: subtitles_pb2.SubtitleMode.ValueType, *, has_aligner: bool) -> subtitles_pb2.SubtitleMode.ValueType:
    """The mode to apply. Raises InvalidValue naming the field, FeatureUnavailable."""
    if value not in subtitles_pb2.SubtitleMode.values():
        raise InvalidValue.of("mode", f"{value} is not a mode of this version")
    if value == subtitles_pb2.SUBTITLE_MODE_ACCURATE and not has_aligner:
        raise FeatureUnavailable(
            "mode: SUBTITLE_MODE_ACCURATE needs the forced aligner, and this server has none loaded; use FAST"
        )
    if value == subtitles_pb2.SUBTITLE_MODE_UNSPECIFIED:
        return subtitles_pb2.SUBTITLE_MODE_ACCURATE if has_aligner else subtitles_pb2.SUBTITLE_MODE_FAST
    return value


def rules_message(rules: CueRules) -> subtitles_pb2.CueRules:
    return subtitles_pb2.CueRules(**{name: getattr(rules, name) for name in _RULES})


def subtitle_segment(result: SegmentResult, words: tuple[Word, ...]) -> SubtitleSegment:
    hypothesis, speech = result.hypothesis, result.speech
    return SubtitleSegment(
        text=hypothesis.text,
        start_ms=speech.start_ms,
        end_ms=speech.end_ms,
        words=tuple(SubtitleWord(word.text, word.start_ms, word.end_ms) for word in words),
        language=hypothesis.language.code if hypothesis.language is not None else "",
    )


def cue_message(index: int, cue: Cue) -> subtitles_pb2.Cue:
    """`index` from 1."""
    return subtitles_pb2.Cue(
        index=index,
        start_ms=cue.start_ms,
        end_ms=cue.end_ms,
        lines=cue.lines,
        language=convert.language_message(_LANGUAGES.get(cue.language)),
    )


def file_message(cues: list[Cue], form: subtitles_pb2.SubtitleFormat.ValueType) -> HttpBody:
    content_type, write = _WRITERS[form]
    return HttpBody(content_type=content_type, data=write(cues).encode())
