"""The bridge's settings: read strictly, refused plainly."""

from __future__ import annotations

import pytest

from asr_service.environment import BadSettings
from rest_bridge.config import REFUSALS, BridgeSettings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for row in BridgeSettings.rows() for name in row.names] + [refusal.name for refusal in REFUSALS]
    for name in names:
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_stay_on_this_machine() -> None:
    settings = BridgeSettings.load()

    assert (settings.host, settings.http_port, settings.target) == ("127.0.0.1", 8000, "127.0.0.1:50051")
    assert settings.max_upload_bytes == 4 * 1024**3
    assert "whisper-1" in settings.model_aliases


def test_the_target_follows_the_services_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_PORT", "6000")
    assert BridgeSettings.load().target == "127.0.0.1:6000"

    monkeypatch.setenv("ASR_TARGET", "dns:///asr:50051")
    assert BridgeSettings.load().target == "dns:///asr:50051"


def test_older_spellings_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("LOG_LEVEL", "WARN")
    monkeypatch.setenv("MODEL_ALIASES", " a , b,")

    settings = BridgeSettings.load()

    assert (settings.http_port, settings.log_level, settings.model_aliases) == (9000, "warning", ("a", "b"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_beyond_loopback_a_key_or_an_explicit_word_is_needed(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HOST", host)
    with pytest.raises(BadSettings, match="API_KEYS"):
        BridgeSettings.load()

    monkeypatch.setenv("API_KEYS", "k1,k2")
    assert BridgeSettings.load().api_keys == ("k1", "k2")

    monkeypatch.delenv("API_KEYS")
    monkeypatch.setenv("ALLOW_UNAUTHENTICATED", "true")
    assert BridgeSettings.load().host == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
def test_loopback_needs_nothing(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HOST", host)

    assert BridgeSettings.load().host == host


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_settings_of_missing_features_are_refused_unless_off(monkeypatch: pytest.MonkeyPatch, refusal: object) -> None:
    assert isinstance(refusal, type(REFUSALS[0]))
    monkeypatch.setenv(refusal.name, "17")
    with pytest.raises(BadSettings, match=refusal.name):
        BridgeSettings.load()

    for value in ("", *refusal.off):
        monkeypatch.setenv(refusal.name, value)
        assert BridgeSettings.load()
