"""bench/gpu.py, tried out without a GPU: a program of its own, from the source tree, whose replays run functions again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.stack.processes import ROOT

EVERYTHING = {"check", "H1", "H2", "H3", "H4", "H5", "H6", "H7", "H8", "H9", "H10", "H11", "H12", "H15"}


def run(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "OUT": str(out), "PYTHONPATH": "", **environment}
    command = [sys.executable, "bench/gpu.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def test_a_trial_runs_every_part_and_finds_all_tokens_the_same(tmp_path: Path) -> None:
    result = run(tmp_path, "--trial")

    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["id"] for row in rows} - {"H6c"} == EVERYTHING
    assert all(row["met"] is not False for row in rows if row["id"] == "check")
    assert not [row for row in rows if row["id"] != "check" and row["met"] is not None]  # nothing was measured
    assert all("no figure means anything" in row["conditions"]["device"] for row in rows)


def test_a_check_runs_no_measurement(tmp_path: Path) -> None:
    result = run(tmp_path, "--trial", "--check")

    assert result.returncode == 0, result.stdout + result.stderr
    assert {row["id"] for row in json.loads((tmp_path / "gpu.json").read_text())} == {"check"}


def test_parts_for_which_no_time_is_left_are_left_out_and_named(tmp_path: Path) -> None:
    result = run(tmp_path, "--trial", "--limit-s", "0")

    assert "left out: check: tokens: " in result.stdout
    assert "left out: tiny: H7 long clips: " in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    result = run(tmp_path)

    assert result.returncode == 0
    assert result.stdout.startswith("left out: everything: torch sees no CUDA device here")
    assert not (tmp_path / "gpu.json").exists()


IMPORTS = """
import sys
sys.path[:0] = ["bench", "."]
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"aiohttp", "av", "grpc", "onnxruntime", "pocketsphinx", "pydantic", "qwen_asr", "soxr"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import gpu
print("imported")
"""


def test_it_imports_nothing_of_the_servers() -> None:
    result = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.stdout == "imported\n", result.stderr
