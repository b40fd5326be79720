"""Which engine serves, and why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from asr_service.config import DEFAULT_MODEL_ID, Settings
from asr_service.engine.protocol import Engine, EngineFailed
from asr_service.engines import extras, pocketsphinx, select
from asr_service.engines.select import choose, choose_engine
from asr_service.metrics import Metrics

FOLDER = "/models/mine"


def engine_for(engine: str, **settings: object) -> Engine:
    return choose_engine(Settings.load(engine=engine, **settings), Metrics())


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The models that are on disk; a test adds to it. What the extras bring is installed."""
    models: set[str] = set()
    monkeypatch.setattr(select, "_lack_of_weights", lambda model_id: "" if model_id in models else f"no weights of {model_id}")
    _install(monkeypatch, (*extras.QWEN3.modules, *extras.REFERENCE.modules))
    return models


def _install(monkeypatch: pytest.MonkeyPatch, modules: Iterable[str]) -> None:
    installed = set(modules)
    monkeypatch.setattr(extras, "find_spec", lambda name: SimpleNamespace() if name in installed else None)


@pytest.mark.parametrize(
    ("requested", "model_id", "engine", "model", "reason"),
    [
        ("auto", "pocketsphinx-en-us", "pocketsphinx", "pocketsphinx-en-us", "ENGINE=auto: MODEL_ID=pocketsphinx-en-us"),
        ("pocketsphinx", "", "pocketsphinx", "pocketsphinx-en-us", "ENGINE=pocketsphinx"),
        ("qwen3", "", "qwen3", DEFAULT_MODEL_ID, "ENGINE=qwen3"),
        ("qwen3", FOLDER, "qwen3", FOLDER, "ENGINE=qwen3"),
        ("reference", FOLDER, "reference", FOLDER, "ENGINE=reference"),
        ("fake", "", "fake", "fake", "ENGINE=fake: invents its text; for tests only"),
        ("fake", "fake", "fake", "fake", "ENGINE=fake: invents its text; for tests only"),
    ],
)
def test_a_valid_choice_says_what_and_why(requested: str, model_id: str, engine: str, model: str, reason: str) -> None:
    assert choose(requested, model_id) == select.Choice(engine, model, reason)


@pytest.mark.parametrize(("named", "used"), [("", DEFAULT_MODEL_ID), (FOLDER, FOLDER)])
def test_auto_takes_the_weights_that_are_on_disk(named: str, used: str, on_disk: set[str]) -> None:
    on_disk.add(used)

    assert choose("auto", named) == select.Choice("qwen3", used, f"ENGINE=auto: {used} is on disk")


def test_auto_without_weights_is_the_embedded_engine_and_says_why(on_disk: set[str]) -> None:
    choice = choose("auto", "")

    assert choice.engine == "pocketsphinx"
    assert choice.reason == f"ENGINE=auto: no weights of {DEFAULT_MODEL_ID}; embedded default"


def test_auto_without_the_extra_is_the_embedded_engine_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, on_disk: set[str]
) -> None:
    on_disk.add(DEFAULT_MODEL_ID)
    _install(monkeypatch, ["huggingface_hub", "safetensors", "tokenizers"])

    choice = choose("auto", "")

    assert choice.engine == "pocketsphinx"
    assert choice.reason == "ENGINE=auto: torch is not installed (pip install -e '.[qwen3]'); embedded default"


def test_auto_names_what_is_missing_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    choice = choose("auto", "")

    assert choice.engine == "pocketsphinx"
    assert DEFAULT_MODEL_ID in choice.reason
    assert f"asr models pull {DEFAULT_MODEL_ID}" in choice.reason


def test_auto_never_gives_another_model_than_the_one_asked_for(monkeypatch: pytest.MonkeyPatch, on_disk: set[str]) -> None:
    with pytest.raises(EngineFailed, match=f"MODEL_ID={FOLDER}: no weights of {FOLDER}"):
        choose("auto", FOLDER)

    on_disk.add(FOLDER)
    _install(monkeypatch, [])
    with pytest.raises(EngineFailed, match=f"MODEL_ID={FOLDER}: torch, safetensors, tokenizers, huggingface_hub are not inst"):
        choose("auto", FOLDER)


def test_an_engine_of_a_later_version_is_refused_as_that() -> None:
    with pytest.raises(
        EngineFailed, match="ENGINE=vllm: not part of this version; valid: auto, qwen3, reference, pocketsphinx"
    ):
        choose("vllm", "")


def test_an_unknown_engine_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(EngineFailed, match="ENGINE=whisper: unknown; valid: auto, qwen3, reference, pocketsphinx, fake"):
        choose("whisper", "")


def test_a_model_that_the_engine_does_not_have_is_refused_with_the_one_it_has() -> None:
    with pytest.raises(EngineFailed, match="MODEL_ID=tiny: ENGINE=fake does not have it; valid: fake"):
        choose("fake", "tiny")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocketsphinx, "find_spec", lambda _: None)

    with pytest.raises(EngineFailed, match="the package pocketsphinx is not installed"):
        engine_for("pocketsphinx")


@pytest.mark.parametrize("engine", ["qwen3", "reference"])
def test_without_its_packages_an_engine_says_how_to_get_them(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, [])

    with pytest.raises(EngineFailed, match=rf"ENGINE={engine}: torch, .* are not installed \(pip install -e '\.\[{engine}\]'"):
        engine_for(engine)


def test_choosing_imports_no_recogniser_into_the_service() -> None:
    code = (
        "import sys; from asr_service.engines.select import choose_engine; from asr_service.metrics import Metrics;"
        "from asr_service.config import Settings;"
        "choose_engine(Settings.load(engine='pocketsphinx', model_id='', device='auto', dtype='auto'), Metrics());"
        "sys.exit(bool({'pocketsphinx', 'torch', 'transformers', 'qwen_asr'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
