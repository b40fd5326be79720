"""Our aligner says the classes that the stock package says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr_service.engine.protocol import EngineFailed
from asr_service.errors import InvalidValue
from asr_service.model.aligner import QwenAligner
from asr_service.request import SAMPLE_RATE
from tests.model.aligners import StockAligner, write_random_aligner
from tests.model.random_checkpoint import Shape
from tests.model.sounds import lively

TEXTS = (
    ("turn on the light", "English"),
    ("打开厨房窗户", "Chinese"),
    ("hola, ¿qué tal?", "Spanish"),
    ("Zwölf Boxkämpfer jagen Viktor quer über den Deich", "German"),
    ("iPhone在北京 don't", "English"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Path:
    return write_random_aligner(tmp_path_factory.mktemp("aligner"), small_folder, Shape())


@pytest.fixture(scope="module")
def stock(folder: Path) -> StockAligner:
    return StockAligner(folder)


@pytest.fixture(scope="module")
def ours(folder: Path) -> QwenAligner:
    aligner = QwenAligner(folder, device="cpu", dtype="float32")
    aligner.load()
    return aligner


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.3, 8.0, 21.7])
@pytest.mark.parametrize(("text", "language"), TEXTS[:3])
def test_classes_are_those_of_the_stock_package(
    ours: QwenAligner, stock: StockAligner, seconds: float, text: str, language: str
) -> None:
    samples = lively(round(seconds * SAMPLE_RATE), seed=round(seconds * 10))
    (classes,) = ours.classes([ours.prepare(samples, stock.units(text, language))])
    assert classes == stock.classes([(samples, text, language)])[0]
    assert len(set(classes)) > 1


def test_a_batch_is_each_alone(ours: QwenAligner, stock: StockAligner) -> None:
    clips = [(lively(17_600 + 43_200 * n, seed=n), text, language) for n, (text, language) in enumerate(TEXTS)]
    pieces = [ours.prepare(samples, stock.units(text, language)) for samples, text, language in clips]
    assert ours.classes(pieces) == [ours.classes([piece])[0] for piece in pieces] == stock.classes(clips)


def test_times_are_classes_in_ms(ours: QwenAligner) -> None:
    piece = ours.prepare(lively(32_000, seed=5), ["turn", "on"])
    assert ours.run([piece]) == [tuple(80 * class_ for class_ in ours.classes([piece])[0])]
    assert ours.run([]) == []


def test_loads_again_after_unloading(folder: Path) -> None:
    aligner = QwenAligner(folder, device="cpu", dtype="float32")
    piece = aligner.prepare(lively(32_000, seed=5), ["turn", "on"])
    aligner.load()
    first = aligner.run([piece])
    aligner.unload()
    aligner.unload()
    with pytest.raises(RuntimeError, match="not loaded"):
        aligner.run([piece])
    aligner.load()
    assert aligner.run([piece]) == first


def test_more_than_the_classes_reach_is_refused(ours: QwenAligner) -> None:
    with pytest.raises(InvalidValue, match="24000 ms"):
        ours.prepare(np.zeros(16_000 * 25, np.float32), ["turn"])


def test_a_recogniser_is_no_aligner(small_folder: Path) -> None:
    with pytest.raises(EngineFailed, match="forced aligner"):
        QwenAligner(small_folder, device="cpu", dtype="float32")
