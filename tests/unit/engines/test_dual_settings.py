"""DUAL_MODEL and FAST_MODEL_ID: what goes together, and what does not."""

from __future__ import annotations

import pytest

from asr_service.config import Settings
from asr_service.engine.protocol import EngineFailed
from asr_service.engines.select import choose_engine
from asr_service.environment import BadSettings
from asr_service.metrics import Metrics


def test_two_models_are_off_unless_asked_for() -> None:
    assert (Settings.load().dual_model, Settings.load().fast_model_id) == (False, "")


def test_both_names_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENGINE": "qwen3", "DUAL_MODEL": "true", "FAST_MODEL_ID": "a/b"}.items():
        monkeypatch.setenv(name, value)

    assert (Settings.load().dual_model, Settings.load().fast_model_id) == (True, "a/b")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"engine": "qwen3", "fast_model_id": "a/b"}, "FAST_MODEL_ID='a/b': expected DUAL_MODEL=true with it"),
        ({"engine": "qwen3", "dual_model": True}, "DUAL_MODEL=true: expected FAST_MODEL_ID to name the model that guesses"),
        ({"engine": "auto", "dual_model": True, "fast_model_id": "a/b"}, "DUAL_MODEL=true: ENGINE=auto cannot do that"),
        ({"engine": "reference", "dual_model": True, "fast_model_id": "a/b"}, "DUAL_MODEL=true: ENGINE=reference cannot do"),
    ],
)
def test_what_does_not_go_together_stops_the_process(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadSettings, match=complaint):
        Settings.load(**settings)


def test_one_model_twice_is_refused() -> None:
    settings = Settings.load(engine="qwen3", model_id="a/b", dual_model=True, fast_model_id="a/b")

    with pytest.raises(EngineFailed, match="FAST_MODEL_ID=a/b: is MODEL_ID too; expected another model"):
        choose_engine(settings, Metrics())
