from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asr_service.engine.protocol import EngineInfo, Feature
from asr_service.errors import AsrError, FeatureUnavailable, LanguageUnavailable
from asr_service.grpc_api import convert
from asr_service.languages import ENGLISH, LANGUAGES
from asr_service.pb.asr.v1 import audio_pb2, transcript_pb2
from asr_service.request import Hypothesis, Quality, RecognitionOptions, SegmentResult, Speech, TokenUse, Word
from asr_service.transcriber.job import Completed

ABLE = EngineInfo("able", "able-1", "cpu", LANGUAGES, frozenset(Feature), "us")
PLAIN = replace(ABLE, name="plain", languages=(ENGLISH,), features=frozenset())


def config(**fields: Any) -> transcript_pb2.RecognitionConfig:
    return transcript_pb2.RecognitionConfig(**fields)


def test_an_empty_config_is_the_default() -> None:
    wanted = convert.read_config(config(), PLAIN)

    assert wanted.options == RecognitionOptions()
    assert wanted.voice_activity.enabled
    assert not wanted.warnings


@pytest.mark.parametrize(
    ("fields", "reason", "text"),
    [
        ({"model": "other"}, "MODEL_NOT_FOUND", "available: able-1"),
        ({"language": "klingon"}, "UNKNOWN_LANGUAGE", "valid: auto"),
        ({"candidate_languages": ["xx"]}, "UNKNOWN_LANGUAGE", "config.candidate_languages"),
        ({"temperature": 1.5}, "INVALID_VALUE", "1.5 is outside 0 to 1"),
        ({"temperature": float("nan")}, "INVALID_VALUE", "config.temperature"),
        ({"max_alternatives": 0}, "INVALID_VALUE", "0 is outside 1 to 10"),
        ({"context": "x" * 10_001}, "INVALID_VALUE", "10001 characters are too many (limit 10000)"),
        ({"phrases": [{"text": "a", "weight": 11}]}, "INVALID_VALUE", "11 is outside -10 to 10"),
        ({"phrases": [{"text": "a"}] * 1001}, "INVALID_VALUE", "1001 phrases are too many"),
        ({"voice_activity": {"threshold": 1.0}}, "INVALID_VALUE", "1 is not between 0 and 1"),
        ({"voice_activity": {"silence_ms": 50}}, "INVALID_VALUE", "50 is outside 100 to 5000"),
        ({"voice_activity": {"prefix_padding_ms": 2000}}, "INVALID_VALUE", "2000 is outside 0 to 1000"),
        ({"voice_activity": {"mode": 99}}, "INVALID_VALUE", "99 is not a mode"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_field_is_refused_and_named(fields: dict[str, Any], reason: str, text: str) -> None:
    with pytest.raises(AsrError) as caught:
        convert.read_config(config(**fields), ABLE)

    assert caught.value.reason == reason
    assert text in caught.value.message


def test_a_known_language_beyond_the_engine_is_a_precondition() -> None:
    with pytest.raises(LanguageUnavailable, match="able-1 does not recognise German; it recognises English"):
        convert.read_config(config(language="de-AT"), PLAIN)
    with pytest.raises(LanguageUnavailable):
        convert.read_config(config(candidate_languages=["de", "fr"]), PLAIN)

    assert (
        convert.read_config(config(candidate_languages=["de", "en"]), PLAIN).warnings[0].field == "config.candidate_languages"
    )


EVERYTHING = {
    "context": "names",
    "phrases": [{"text": "Envoy"}],
    "temperature": 0.5,
    "word_times": True,
    "word_confidence": True,
    "max_alternatives": 3,
}


def test_what_the_engine_cannot_use_is_a_warning_each() -> None:
    wanted = convert.read_config(config(**EVERYTHING, extensions={"hotwords": "x"}), PLAIN)

    fields = {warning.field for warning in wanted.warnings}
    assert fields == {f"config.{name}" for name in EVERYTHING} | {"config.extensions.hotwords"}
    assert not convert.read_config(config(**EVERYTHING), ABLE).warnings


def test_candidates_beyond_the_engine_are_left_out() -> None:
    bilingual = replace(ABLE, languages=LANGUAGES[:2])
    wanted = convert.read_config(config(candidate_languages=["de", "en", "zh"]), bilingual)

    assert [language.code for language in wanted.options.candidate_languages] == ["en", "zh"]


def test_phrases_to_avoid_are_a_warning_where_only_others_can_be_used() -> None:
    preferring = replace(ABLE, features=frozenset(Feature) - {Feature.NEGATIVE_PHRASES})
    avoid = config(phrases=[{"text": "Envoy"}, {"text": "envoi", "weight": -1}])

    assert [w.field for w in convert.read_config(avoid, preferring).warnings] == ["config.phrases.weight"]
    assert [w.field for w in convert.read_config(avoid, PLAIN).warnings] == ["config.phrases"]
    assert not convert.read_config(avoid, ABLE).warnings
    assert not convert.read_config(config(phrases=[{"text": "Envoy"}]), preferring).warnings


def test_strict_turns_warnings_into_a_failure() -> None:
    with pytest.raises(FeatureUnavailable, match=r"config.context has no effect.*\(strict\)"):
        convert.read_config(config(context="x", strict=True), PLAIN)


def test_the_effective_config_reads_back_as_itself() -> None:
    wanted = convert.read_config(config(**EVERYTHING, language="German", voice_activity={"silence_ms": 700}), ABLE)

    again = convert.read_config(convert.effective_config(wanted, ABLE), ABLE)

    assert again.options == wanted.options
    assert again.voice_activity == wanted.voice_activity


@pytest.mark.parametrize(
    "fields",
    [
        {"encoding": audio_pb2.AUDIO_ENCODING_PCM_S16LE},
        {"encoding": audio_pb2.AUDIO_ENCODING_PCM_S16LE, "sample_rate_hz": 100},
        {"encoding": audio_pb2.AUDIO_ENCODING_PCM_S16LE, "sample_rate_hz": 16000, "channels": 9},
        {"sample_rate_hz": 16000},
        {"encoding": 77},
    ],
    ids=str,
)
def test_a_bad_format_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(AsrError) as caught:
        convert.read_format(audio_pb2.AudioFormat(**fields), "", max_channels=8)

    assert caught.value.violations[0].field.startswith("format.")


def test_words_and_confidence_are_sent_only_when_asked_for() -> None:
    speech = Speech(np.zeros(16000, np.float32), start_ms=500, cut_in_speech=True)
    hypothesis = Hypothesis("hello", ENGLISH, (Word("hello", 600, 900, 0.9),), confidence=0.9)
    result = SegmentResult(3, speech, hypothesis)

    plain = convert.segment_message(result, RecognitionOptions())
    full = convert.segment_message(result, RecognitionOptions(word_times=True, word_confidence=True))

    assert (plain.index, plain.start_ms, plain.end_ms, plain.text, len(plain.words)) == (3, 500, 1500, "hello", 0)
    assert not plain.HasField("speech_probability")
    assert plain.quality_flags == [transcript_pb2.QUALITY_FLAG_CUT_IN_SPEECH]
    assert full.words[0].confidence == pytest.approx(0.9)


def test_every_quality_has_its_flag() -> None:
    speech = Speech(np.zeros(16000, np.float32), start_ms=0)
    result = SegmentResult(0, speech, Hypothesis("hello", ENGLISH, flags=frozenset(Quality)))

    names = [
        transcript_pb2.QualityFlag.Name(flag) for flag in convert.segment_message(result, RecognitionOptions()).quality_flags
    ]
    assert sorted(names) == sorted(f"QUALITY_FLAG_{quality.name}" for quality in Quality)


def test_tokens_are_told_where_they_are_counted() -> None:
    completed = Completed("a", ENGLISH, 1000, 900, 1, 1, tokens=TokenUse(audio=13, prompt=9, output=0))

    usage = convert.usage_message(completed)
    assert (usage.input_audio_tokens, usage.input_text_tokens, usage.output_tokens) == (13, 9, 0)
    assert usage.HasField("output_tokens")
    assert not convert.usage_message(replace(completed, tokens=None)).HasField("output_tokens")
