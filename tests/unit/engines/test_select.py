"""Which engine serves, and why."""

from __future__ import annotations

import subprocess
import sys

import pytest

from asr_service.engine.protocol import Engine, EngineFailed
from asr_service.engines import pocketsphinx
from asr_service.engines.select import choose_engine
from asr_service.metrics import Metrics


def choose(requested: str, model_id: str = "") -> Engine:
    return choose_engine(requested, model_id=model_id, slots=1, queue_capacity=8, idle_timeout_s=0.0, metrics=Metrics())


@pytest.mark.parametrize(
    ("requested", "model_id", "name", "reason"),
    [
        ("auto", "", "pocketsphinx", "ENGINE=auto: the Qwen3-ASR engine is not part of this version; embedded default"),
        ("auto", "pocketsphinx-en-us", "pocketsphinx", "ENGINE=auto"),
        ("pocketsphinx", "", "pocketsphinx", "ENGINE=pocketsphinx"),
        ("fake", "", "fake", "ENGINE=fake"),
        ("fake", "fake", "fake", "ENGINE=fake"),
    ],
)
def test_a_valid_choice_says_what_and_why(requested: str, model_id: str, name: str, reason: str) -> None:
    info = choose(requested, model_id).info

    assert info.name == name
    assert reason in info.reason


@pytest.mark.parametrize("requested", ["qwen3", "vllm", "reference"])
def test_an_engine_of_a_later_version_is_refused_as_that(requested: str) -> None:
    with pytest.raises(EngineFailed, match=f"ENGINE={requested}: not part of this version; valid: auto, pocketsphinx, fake"):
        choose(requested)


def test_an_unknown_engine_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(EngineFailed, match="ENGINE=whisper: unknown; valid: auto, pocketsphinx, fake"):
        choose("whisper")


def test_an_unknown_model_is_refused_with_the_valid_one() -> None:
    with pytest.raises(EngineFailed, match="MODEL_ID=tiny: ENGINE=auto does not have it; valid: pocketsphinx-en-us"):
        choose("auto", "tiny")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocketsphinx, "find_spec", lambda _: None)

    with pytest.raises(EngineFailed, match="the package pocketsphinx is not installed"):
        choose("auto")


def test_choosing_imports_no_recogniser_into_the_service() -> None:
    code = (
        "import sys; from asr_service.engines.select import choose_engine; from asr_service.metrics import Metrics;"
        "choose_engine('auto', model_id='', slots=1, queue_capacity=1, idle_timeout_s=0, metrics=Metrics());"
        "sys.exit('pocketsphinx' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
