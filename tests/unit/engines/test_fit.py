"""Settings that an engine cannot fulfil stop the process; those that mean nothing to it are named in the log."""

from __future__ import annotations

import logging

import pytest

from asr_service.config import Settings
from asr_service.engine.protocol import EngineFailed
from asr_service.engines.fit import check_fit


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"dtype": "bfloat16"}, "DTYPE='bfloat16': ENGINE=pocketsphinx cannot do that; expected auto or float32"),
        ({"device": "cuda:0"}, "DEVICE='cuda:0': ENGINE=pocketsphinx cannot do that; expected auto or cpu"),
    ],
)
def test_what_the_embedded_engine_cannot_do_is_refused(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(EngineFailed, match=complaint):
        check_fit("pocketsphinx", Settings.load(engine="pocketsphinx", **settings))


@pytest.mark.parametrize("engine", ["reference", "pocketsphinx"])
def test_weights_in_8_bits_are_refused_by_the_engines_that_have_none(engine: str) -> None:
    with pytest.raises(EngineFailed, match=f"QUANTIZE='int8': ENGINE={engine} cannot do that; expected it unset"):
        check_fit(engine, Settings.load(engine=engine, quantize="int8"))


def test_a_refusal_says_that_auto_chose_the_engine() -> None:
    with pytest.raises(EngineFailed, match="DEVICE='cuda': ENGINE=auto chose pocketsphinx, which cannot do that"):
        check_fit("pocketsphinx", Settings.load(engine="auto", device="cuda"))


@pytest.mark.parametrize("engine", ["qwen3", "reference"])
def test_engines_on_torch_take_any_device_and_precision(engine: str) -> None:
    check_fit(engine, Settings.load(engine=engine, device="cuda:1", dtype="float16"))


def test_a_setting_without_effect_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.load(engine="pocketsphinx", step_tokens=64, engine_slots=2)

    with caplog.at_level(logging.WARNING):
        check_fit("pocketsphinx", settings)

    assert [record.getMessage() for record in caplog.records] == [
        "STEP_TOKENS=64 has no effect: the engine pocketsphinx does not use it"
    ]


def test_defaults_are_no_matter_of_words(caplog: pytest.LogCaptureFixture) -> None:
    for engine in ("qwen3", "reference", "pocketsphinx", "fake"):
        check_fit(engine, Settings.load(engine=engine))

    assert not caplog.records
