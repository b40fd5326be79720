"""Form fields become what the service is asked for, and nothing is dropped silently."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.pb.asr.v1 import audio_pb2
from rest_bridge.errors import HttpError
from rest_bridge.parameters import Parameters, parse_parameters

ALIASES = ("whisper-1", "gpt-4o-transcribe")


def parsed(*fields: tuple[str, str], is_complete: bool = True) -> Parameters:
    return parse_parameters(fields, aliases=ALIASES, is_complete=is_complete)


def test_no_fields_ask_for_the_defaults() -> None:
    wanted = parsed()

    assert wanted.response_format == "json"
    assert not wanted.has_model
    assert wanted.config.ByteSize() == 0


def test_an_alias_means_the_default_model_and_other_names_are_left_to_the_service() -> None:
    assert (parsed(("model", "whisper-1")).config.model, parsed(("model", "whisper-1")).has_model) == ("", True)
    assert parsed(("model", "Qwen/X")).config.model == "Qwen/X"
    assert not parsed(("model", "")).has_model


def test_arrays_come_with_and_without_brackets_and_numbers() -> None:
    wanted = parsed(("languages[]", "de"), ("languages", "en"), ("languages[2]", "fr"), ("keywords[]", "Ada"))

    assert list(wanted.config.candidate_languages) == ["de", "en", "fr"]
    assert [phrase.text for phrase in wanted.config.phrases] == ["Ada"]


def test_brackets_on_a_plain_field_are_unknown() -> None:
    wanted = parsed(("language[]", "de"))

    assert not wanted.config.HasField("language")
    assert wanted.notices == ("language[]: ignored; an unknown field",)


@pytest.mark.parametrize("name", ["timestamp_granularities", "timestamp_granularities[]"])
def test_words_are_asked_for_by_granularity(name: str) -> None:
    wanted = parsed(("response_format", "verbose_json"), (name, "word"))

    assert wanted.config.word_times
    assert wanted.config.word_confidence
    assert wanted.wants_words
    assert not wanted.wants_segments


@pytest.mark.parametrize("name", ["return_timestamps", "return_time_stamps"])
def test_older_servers_names_ask_for_words(name: str) -> None:
    assert parsed((name, "True")).wants_words
    assert not parsed((name, "false")).config.word_times


@pytest.mark.parametrize("response_format", ["srt", "vtt"])
def test_subtitles_need_word_times(response_format: str) -> None:
    assert parsed(("response_format", response_format)).config.word_times


def test_a_rule_about_two_fields_waits_for_both() -> None:
    granularity = ("timestamp_granularities[]", "word")

    assert parsed(granularity, is_complete=False).config.word_times
    for fields, is_complete in [((granularity,), True), ((granularity, ("response_format", "text")), False)]:
        with pytest.raises(HttpError) as caught:
            parsed(*fields, is_complete=is_complete)
        assert caught.value.param == "timestamp_granularities[]"


def test_temperature_zero_asks_for_nothing() -> None:
    assert not parsed(("temperature", "0.7"), ("temperature", "0")).config.HasField("temperature")
    assert round(parsed(("temperature", "0.7")).config.temperature, 5) == 0.7


CHUNKINGS = [
    [("chunking_strategy", json.dumps({"type": "server_vad", "threshold": 0.25, "silence_duration_ms": 700}))],
    [
        ("chunking_strategy[type]", "server_vad"),
        ("chunking_strategy[threshold]", "0.25"),
        ("chunking_strategy[silence_duration_ms]", "700"),
    ],
]


@pytest.mark.parametrize("fields", CHUNKINGS)
def test_a_chunking_strategy_is_read_as_json_and_flattened(fields: list[tuple[str, str]]) -> None:
    activity = parsed(*fields).config.voice_activity

    assert activity == audio_pb2.VoiceActivity(mode=audio_pb2.VOICE_ACTIVITY_MODE_ON, threshold=0.25, silence_ms=700)


def test_the_automatic_chunking_strategy_is_the_default() -> None:
    assert parsed(("chunking_strategy", "auto")).config.ByteSize() == 0
    assert not parsed(("chunking_strategy[type]", "auto")).config.voice_activity.HasField("silence_ms")


@pytest.mark.parametrize(
    "value",
    ["nonsense", "{}x", "[]", '{"type":"semantic_vad"}', '{"threshold":"x"}', '{"silence_duration_ms":1.5}', "[" * 5000],
)
def test_a_bad_chunking_strategy_is_refused(value: str) -> None:
    with pytest.raises(HttpError) as caught:
        parsed(("chunking_strategy", value))

    assert (caught.value.status, caught.value.param) == (400, "chunking_strategy")


def test_a_notice_is_given_once_per_field() -> None:
    notices = parsed(
        ("vad_filter", "1"), ("vad_filter", "2"), ("include[]", "logprobs"), ("known_speaker_names[]", "A")
    ).notices

    assert notices == (
        "vad_filter: ignored; an unknown field",
        "include[]: ignored; this engine has no token log probabilities",
        "known_speaker_names[]: ignored; speakers are not told apart here",
    )


NAMES = ["model", "language", "languages[]", "keywords[]", "prompt", "response_format", "temperature", "include[]", "stream"]
NAMES += ["timestamp_granularities[]", "chunking_strategy", "chunking_strategy[threshold]", "return_timestamps", "other"]


@given(st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=10), st.text(max_size=20)), max_size=6), st.booleans())
def test_any_fields_are_read_or_refused_with_400(fields: list[tuple[str, str]], is_complete: bool) -> None:
    refused: HttpError | None = None
    try:
        parsed(*fields, is_complete=is_complete)
    except HttpError as error:
        refused = error

    assert refused is None or (refused.status == 400 and refused.param)
