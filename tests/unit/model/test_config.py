"""Reading a checkpoint's description."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr_service.engine.protocol import EngineFailed
from asr_service.languages import LANGUAGES
from asr_service.model.config import Layout, read_config
from tests.model.checkpoints import config_values, model_config, special_ids, write_tokenizer

Values = dict[str, Any]


def write(folder: Path, values: Values, **others: Values) -> Path:
    folder.mkdir(exist_ok=True)
    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(values))
    for name, content in others.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def thinker(**changes: Any) -> Values:
    values = config_values(model_config())
    values["thinker_config"] |= changes
    return values


def changed(part: str, **changes: Any) -> Values:
    values = thinker()
    section = values["thinker_config"][part]
    for name, value in changes.items():
        if value is None:
            del section[name]
        else:
            section[name] = value
    return values


@pytest.mark.parametrize("layout", ["thinker", "native"])
def test_both_layouts_describe_the_same_network(tmp_path: Path, layout: Layout) -> None:
    config = model_config(layout=layout)

    assert read_config(write(tmp_path, config_values(config))) == config


def test_derived_sizes() -> None:
    audio = model_config().audio

    assert (audio.tokens_per_chunk, audio.window_frames, audio.window_tokens, audio.head_dim) == (13, 800, 104, 12)


def test_languages_are_the_listed_ones_or_all(tmp_path: Path) -> None:
    listed = replace(model_config(), languages=("german", "Klingon"))

    assert [language.code for language in listed.spoken] == ["de"]
    assert replace(listed, languages=()).spoken == LANGUAGES
    assert read_config(write(tmp_path, config_values(model_config(layout="native")))).spoken == LANGUAGES


def test_older_ways_to_write_the_rotary_base(tmp_path: Path) -> None:
    values = config_values(model_config(layout="native"))
    del values["text_config"]["rope_parameters"]
    values["text_config"] |= {"rope_theta": 1e6, "rope_scaling": None}

    assert read_config(write(tmp_path, values)).text.rope_theta == 1e6


def test_a_head_of_its_own_is_assumed_in_the_original_layout_only(tmp_path: Path) -> None:
    original = changed("text_config", tie_word_embeddings=None)
    native = config_values(model_config(layout="native"))
    del native["text_config"]["tie_word_embeddings"], native["tie_word_embeddings"]

    assert not read_config(write(tmp_path / "a", original)).text.is_tied
    assert read_config(write(tmp_path / "b", native)).text.is_tied


@pytest.mark.parametrize(("written", "expected"), [(7, {7}), ([7, 9], {7, 9})])
def test_stop_ids_come_from_the_generation_config(tmp_path: Path, written: Any, expected: set[int]) -> None:
    folder = write(tmp_path, thinker(), generation_config={"eos_token_id": written})

    assert read_config(folder).stop_ids == expected


@pytest.mark.parametrize("others", [{}, {"generation_config": {"do_sample": False}}])
def test_stop_ids_fall_back_to_the_tokenizers_end_tokens(tmp_path: Path, others: Values) -> None:
    ids = special_ids()

    assert read_config(write(tmp_path, thinker(), **others)).stop_ids == {ids["<|im_end|>"], ids["<|endoftext|>"]}


def test_an_end_token_may_be_written_as_an_object(tmp_path: Path) -> None:
    folder = write(tmp_path, thinker())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"eos_token": {"content": "<|im_start|>"}}))

    assert special_ids()["<|im_start|>"] in read_config(folder).stop_ids


NO_HEADS = changed("audio_config", encoder_attention_heads=None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (config_values(model_config()) | {"model_type": "whisper"}, 'model_type is "whisper"; expected "qwen3_asr"'),
        (config_values(model_config()) | {"model_type": None}, "model_type"),
        (thinker(model_type="qwen3_forced_aligner"), "this is a forced aligner"),
        (thinker(classify_num=256), "this is a forced aligner"),
        (config_values(model_config(layout="native")) | {"num_labels": 5000}, "this is a forced aligner"),
        (
            config_values(model_config(layout="native")) | {"architectures": ["Qwen3ASRForTokenClassification"]},
            "this is a forced aligner",
        ),
        (thinker(quantization_config={"bits": 4}), "quantization_config"),
        (thinker(audio_token_id=10_000), "audio_token_id is 10000; expected an id below the vocabulary's"),
        (thinker(audio_config=None), "thinker_config.audio_config is missing; expected an object"),
        (thinker(audio_config=[]), "thinker_config.audio_config is []; expected an object"),
        (NO_HEADS, "thinker_config.audio_config.encoder_attention_heads is missing"),
        (changed("audio_config", n_window=25), "n_window is 25; expected 50"),
        (changed("audio_config", n_window_infer=850), "n_window_infer is 850; expected a multiple of 100"),
        (changed("audio_config", activation_function="relu"), 'activation_function is "relu"; expected "gelu"'),
        (changed("audio_config", d_model=50), "d_model is 50"),
        (changed("audio_config", d_model=-48), "d_model is -48; expected a whole number"),
        (changed("audio_config", encoder_layers="two"), 'encoder_layers is "two"'),
        (changed("audio_config", output_dim=63), "output_dim is 63; expected 64"),
        (changed("audio_config", max_source_positions=12), "expected at least 13"),
        (changed("text_config", hidden_act="gelu"), 'hidden_act is "gelu"; expected "silu"'),
        (changed("text_config", rope_scaling={"rope_type": "yarn"}), 'rope_type is "yarn"'),
        (changed("text_config", rope_scaling={"type": "linear"}), '"linear"'),
        (changed("text_config", rope_theta=None), "rope_theta is missing; expected a number above 0"),
        (changed("text_config", rope_theta=True), "rope_theta is true"),
        (changed("text_config", num_key_value_heads=3), "num_key_value_heads is 3; expected a divisor of 4"),
        (changed("text_config", head_dim=25), "head_dim is 25"),
        (changed("text_config", use_sliding_window=True), "use_sliding_window is true"),
        (changed("text_config", tie_word_embeddings="yes"), 'tie_word_embeddings is "yes"; expected true or false'),
        (config_values(model_config()) | {"support_languages": "English"}, "support_languages"),
    ],
)
def test_what_this_engine_does_not_compute_is_refused(tmp_path: Path, values: Values, expected: str) -> None:
    with pytest.raises(EngineFailed) as failed:
        read_config(write(tmp_path, values))

    assert expected in str(failed.value)
    assert "config.json" in str(failed.value)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"feature_size": 80}, "feature_size is 80; expected 128"),
        ({"sampling_rate": 8000}, "sampling_rate is 8000; expected 16000"),
        ({"hop_length": 200}, "hop_length is 200; expected 160"),
        ({"n_fft": 512}, "n_fft is 512; expected 400"),
        ({"dither": 0.1}, "dither is 0.1"),
    ],
)
def test_features_that_this_engine_does_not_compute_are_refused(tmp_path: Path, features: Values, expected: str) -> None:
    for name, content in (("preprocessor_config", features), ("processor_config", {"feature_extractor": features})):
        folder = write(tmp_path / name, thinker(), **{name: content})
        with pytest.raises(EngineFailed, match=expected):
            read_config(folder)


def test_stop_ids_beyond_the_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, thinker(), generation_config={"eos_token_id": [5, 151645]})

    with pytest.raises(EngineFailed, match=r"generation_config.json: eos_token_id is 151645; expected an id below"):
        read_config(folder)


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda file: file.unlink(), "no such file"),
        (lambda file: file.write_text("{"), "not valid JSON"),
        (lambda file: file.write_bytes(b"\xff\xfe{}"), "not valid JSON"),
        (lambda file: file.write_text("[]"), "an object expected"),
        (lambda file: (file.unlink(), file.mkdir()), "cannot be read"),
    ],
)
def test_an_unreadable_description_is_named(tmp_path: Path, break_it: Callable[[Path], object], expected: str) -> None:
    folder = write(tmp_path, thinker())
    break_it(folder / "config.json")

    with pytest.raises(EngineFailed, match=rf"config.json: .*{expected}"):
        read_config(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="no such folder"):
        read_config(tmp_path / "gone")
