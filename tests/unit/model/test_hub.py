"""What a model id is, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asr_service.engine.protocol import EngineFailed
from asr_service.model.hub import BadModelId, HubModel, folder_of, is_on_disk, locate
from tests.model.checkpoints import random_checkpoint


@pytest.mark.parametrize(
    ("model_id", "name", "revision"),
    [
        ("Qwen/Qwen3-ASR-0.6B", "Qwen/Qwen3-ASR-0.6B", "main"),
        ("Qwen/Qwen3-ASR-0.6B@v1.0", "Qwen/Qwen3-ASR-0.6B", "v1.0"),
        ("some_one/model.x@refs/pr/3", "some_one/model.x", "refs/pr/3"),
        ("legacy-name", "legacy-name", "main"),
    ],
)
def test_names_on_the_hub(model_id: str, name: str, revision: str) -> None:
    model = HubModel.parse(model_id)

    assert (model.name, model.revision) == (name, revision)
    assert str(model) == model_id


@pytest.mark.parametrize(
    "model_id", ["", "/a/b", "a/b/c", "../a", "a/..", "a b", "@x", "a@", "a@../x", "-a/b", "a/b@c d", "x" * 97]
)
def test_what_can_be_neither_folder_nor_name_is_refused(model_id: str) -> None:
    with pytest.raises(BadModelId):
        folder_of(model_id)


def test_a_folder_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_checkpoint(tmp_path / "org/model")
    monkeypatch.chdir(tmp_path)

    assert locate("org/model") == Path("org/model")
    assert locate(str(tmp_path / "org/model")) == tmp_path / "org/model"
    assert is_on_disk("org/model")


def test_a_folder_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    random_checkpoint(tmp_path)

    assert is_on_disk(str(tmp_path))


def test_without_the_library_a_name_is_not_on_disk_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    assert not is_on_disk("Qwen/Qwen3-ASR-0.6B")
    with pytest.raises(EngineFailed, match=r"huggingface_hub is not installed \(pip install"):
        locate("Qwen/Qwen3-ASR-0.6B")


def test_a_folder_that_lacks_something_is_not_on_disk(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()

    assert not is_on_disk(str(tmp_path))
    with pytest.raises(EngineFailed, match="no weights"):
        locate(str(tmp_path))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")

    with pytest.raises(BadModelId, match="is a file; expected a folder"):
        folder_of(str(file))
