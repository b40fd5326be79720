"""Verifying and loading weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_service.engine.protocol import EngineFailed
from asr_service.model.checkpoint import Checkpoint, missing_files
from asr_service.model.config import Layout
from asr_service.model.layouts import HEAD, tensor_shapes
from tests.model.checkpoints import (
    DType,
    model_config,
    random_checkpoint,
    random_tensors,
    write_checkpoint,
    write_safetensors,
)

NORM = "thinker.model.norm.weight"


def stored(**changes: Any) -> dict[str, Any]:
    """The tensors of a small checkpoint as its file names them; None takes one away."""
    tensors = {f"thinker.{name}": value for name, value in random_tensors(model_config()).items()}
    tensors |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in tensors.items() if value is not None}


def refused(folder: Path) -> str:
    with pytest.raises(EngineFailed) as failed:
        Checkpoint.open(folder)
    assert "\n" not in str(failed.value)
    return str(failed.value)


@pytest.mark.parametrize("layout", ["thinker", "native"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("is_tied", [False, True])
def test_weights_are_the_same_from_every_kind_of_folder(
    tmp_path: Path, layout: Layout, dtype: DType, n_shards: int, is_tied: bool
) -> None:
    torch = pytest.importorskip("torch")
    config = model_config(layout=layout, dtype=dtype, is_tied=is_tied)
    tensors = random_tensors(config)
    write_checkpoint(tmp_path, config, tensors, n_shards=n_shards)

    checkpoint = Checkpoint.open(tmp_path)
    loaded = checkpoint.tensors(torch.float32, torch.device("cpu"))

    assert checkpoint.config == config
    assert loaded.keys() == tensors.keys() == tensor_shapes(config).keys()
    assert (HEAD in loaded) is not is_tied
    for name, tensor in loaded.items():
        expected = torch.from_numpy(tensors[name]).to(getattr(torch, dtype)).float()
        assert torch.equal(tensor, expected), name


def test_weights_do_not_hold_on_to_the_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    random_checkpoint(tmp_path)
    loaded = Checkpoint.open(tmp_path).tensors(torch.float32, torch.device("cpu"))
    before = loaded["model.norm.weight"].clone()

    (tmp_path / "model.safetensors").write_bytes(b"")

    assert torch.equal(loaded["model.norm.weight"], before)


def test_a_file_that_changed_after_opening_is_one_clear_error(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    random_checkpoint(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")

    with pytest.raises(EngineFailed, match="cannot be loaded"):
        checkpoint.tensors(torch.float32, torch.device("cpu"))


def test_sizes_are_told(tmp_path: Path) -> None:
    config = random_checkpoint(tmp_path, n_shards=2)

    checkpoint = Checkpoint.open(tmp_path)

    assert checkpoint.n_parameters == sum(tensor.size for tensor in random_tensors(config).values())
    assert checkpoint.n_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))


def test_opening_needs_no_torch(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    program = (
        "import sys; from pathlib import Path; from asr_service.model.checkpoint import Checkpoint\n"
        "Checkpoint.open(Path(sys.argv[1]))\n"
        "print([name for name in ('torch', 'safetensors', 'tokenizers', 'huggingface_hub') if name in sys.modules])"
    )

    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({NORM.replace(".", "__"): None}, f"tensor {NORM} is missing from model.safetensors"),
        ({"thinker__model__extra": np.zeros(3)}, "tensor thinker.model.extra is not of a network as config.json describes"),
        (
            {NORM.replace(".", "__"): np.zeros((1, 64))},
            f"model.safetensors: tensor {NORM} has shape [1, 64]; expected [64] by config.json",
        ),
    ],
)
def test_the_wrong_tensors_are_named(tmp_path: Path, tensors: dict[str, Any], expected: str) -> None:
    random_checkpoint(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", stored(**tensors), "float32")

    assert expected in refused(tmp_path)


def test_of_many_missing_tensors_one_is_named(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, model_config(n_layers=1))
    wider = random_tensors(model_config(n_layers=1))
    (tmp_path / "wide").mkdir()
    write_checkpoint(tmp_path / "wide", model_config(n_layers=2), wider)

    assert refused(tmp_path / "wide").endswith(
        "11 tensors, such as thinker.model.layers.1.self_attn.q_proj.weight, are missing from model.safetensors"
    )


@pytest.mark.parametrize("name", ["thinker.audio_tower.positional_embedding.positional_embedding", "thinker.lm_head.weight"])
def test_what_is_computed_or_tied_may_be_stored_too(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    config = model_config(is_tied=True)
    random_checkpoint(tmp_path, config)
    tensors = {f"thinker.{key}": value for key, value in random_tensors(config).items()}
    write_safetensors(tmp_path / "model.safetensors", tensors | {name: np.zeros((2, 2), np.float32)}, "float32")

    loaded = Checkpoint.open(tmp_path).tensors(torch.float32, torch.device("cpu"))

    assert loaded.keys() == tensor_shapes(config).keys()


def test_weights_in_the_other_layout_are_told_apart(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "a", model_config(layout="thinker"))
    random_checkpoint(tmp_path / "b", model_config(layout="native"))
    (tmp_path / "a/config.json").replace(tmp_path / "b/config.json")

    assert "weights in the transformers layout, but config.json describes the original one" in refused(tmp_path / "b")


def test_an_aligners_weights_are_told_apart(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", stored(score__weight=np.zeros((2, 2))), "float32")

    assert "forced aligner" in refused(tmp_path)


def truncate(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:n_bytes])


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda file: truncate(file, file.stat().st_size - 1), "truncated: "),
        (lambda file: truncate(file, 5000), "truncated: "),
        (lambda file: truncate(file, 100), "truncated: 100 bytes found, more expected for its header alone"),
        (lambda file: truncate(file, 5), "truncated: 5 bytes found"),
        (lambda file: truncate(file, 0), "truncated: 0 bytes found"),
        (lambda file: file.write_bytes(file.read_bytes() + b"x"), "too long: "),
        (lambda file: file.write_bytes(b"PK\x03\x04" * 100), "not a safetensors file"),
        (lambda file: file.write_bytes((10).to_bytes(8, "little") + b"{not json}"), "its header is not valid JSON"),
        (lambda file: file.write_bytes((2).to_bytes(8, "little") + b"[]"), "its header is no object"),
        (lambda file: file.write_bytes((8).to_bytes(8, "little") + b'{"a": 1}'), "its header is damaged at tensor a"),
        (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git lfs pull"),
        (lambda file: file.unlink(), "no weights: neither model.safetensors nor model.safetensors.index.json is there"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, break_it: Callable[[Path], object], expected: str) -> None:
    random_checkpoint(tmp_path)
    break_it(tmp_path / "model.safetensors")

    message = refused(tmp_path)

    assert expected in message
    assert str(tmp_path) in message


def test_weights_of_another_kind_are_pointed_out(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")

    assert "pytorch_model.bin is of a kind that is not read" in refused(tmp_path)


def test_an_index_and_its_files_must_fit(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, n_shards=3)
    second = tmp_path / "model-00002-of-00003.safetensors"
    content = second.read_bytes()

    second.unlink()
    assert "1 of 3 files with weights are missing, such as model-00002-of-00003.safetensors" in refused(tmp_path)
    second.write_bytes((tmp_path / "model-00001-of-00003.safetensors").read_bytes())
    assert "is in model-00001-of-00003.safetensors too" in refused(tmp_path)
    second.write_bytes(content[:-1])
    assert "model-00002-of-00003.safetensors: truncated" in refused(tmp_path)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({}, "weight_map is missing"),
        ({"weight_map": {}}, "weight_map is empty"),
        ({"weight_map": {"a": 5}}, "a is 5; expected a string"),
        ({"weight_map": {"a": "../model.safetensors"}}, "expected a .safetensors file in the same folder"),
        ({"weight_map": {"a": "model.bin"}}, "expected a .safetensors file in the same folder"),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, index: dict[str, Any], expected: str) -> None:
    random_checkpoint(tmp_path, n_shards=2)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    assert expected in refused(tmp_path)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header[NORM]["dtype"] = "F8_E4M3"
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + length :])

    assert f"tensor {NORM} is stored as F8_E4M3; expected F32, F16, BF16" in refused(tmp_path)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values["thinker_config"]["audio_token_id"] -= 1
    path.write_text(json.dumps(values))

    assert "<|audio_pad|> is token" in refused(tmp_path)


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        (["tokenizer.json", "vocab.json"], "vocab.json missing"),
        (["tokenizer.json", "vocab.json", "merges.txt"], "tokenizer.json missing"),
        (["config.json"], "config.json missing"),
    ],
)
def test_missing_files_are_told(tmp_path: Path, gone: list[str], expected: str) -> None:
    random_checkpoint(tmp_path)
    assert missing_files(tmp_path) == ""

    for name in gone:
        (tmp_path / name).unlink()

    assert expected in missing_files(tmp_path)
