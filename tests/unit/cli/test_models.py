"""`asr models`: what needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr_service.cli.main import app
from asr_service.cli.models import DownloadLines, size
from tests.model.checkpoints import model_config, random_checkpoint


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    return result.exit_code, result.stdout, re.sub(r"\x1b\[[0-9;]*m", "", result.stderr)


@pytest.mark.parametrize("command", ["pull", "verify", "list"])
def test_every_command_has_help(command: str) -> None:
    code, out, _ = invoke(command, "--help")

    assert code == 0
    assert "Usage" in out


@pytest.mark.parametrize("command", ["pull", "verify"])
def test_a_folder_is_verified_and_printed(tmp_path: Path, command: str) -> None:
    random_checkpoint(tmp_path, model_config(layout="native", dtype="bfloat16"))

    code, out, complaints = invoke(command, str(tmp_path))

    assert (code, out) == (0, f"{tmp_path}\n")
    assert re.fullmatch(
        r"verified: 0\.2 M parameters in bfloat16, \d+ kB, transformers layout, 30 languages\n", complaints.splitlines(True)[-1]
    )


def test_a_bad_checkpoint_is_one_line_and_a_failure(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    code, out, complaints = invoke("verify", str(tmp_path))

    assert (code, out) == (1, "")
    assert complaints.startswith(f"asr: {weights}: truncated: ")


def test_no_model_id_is_wrong_usage() -> None:
    assert invoke("verify", "no such/thing at/all")[0] == 2
    assert invoke("verify")[0] == 2


def test_without_the_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    for arguments in (("pull", "org/name"), ("verify", "org/name"), ("list", "--local")):
        code, _, complaints = invoke(*arguments)
        assert code == 1
        assert "huggingface_hub is not installed (pip install -e '.[qwen3]')" in complaints


def test_verifying_needs_no_part_of_the_extra(tmp_path: Path) -> None:
    random_checkpoint(tmp_path)
    program = (
        "import sys\n"
        "for name in ('torch', 'safetensors', 'tokenizers', 'huggingface_hub', 'transformers'): sys.modules[name] = None\n"
        "from asr_service.cli.models import verify_model\n"
        "sys.exit(verify_model(sys.argv[1]))"
    )

    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == (0, f"{tmp_path}\n")


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (3_983_008, "4 MB"), (1_876_000_000, "1.9 GB"), (5e12, "5000.0 GB")],
)
def test_sizes_read_well(n_bytes: int, expected: str) -> None:
    assert size(n_bytes) == expected


def test_a_download_says_a_line_now_and_then() -> None:
    lines: list[str] = []
    times_s = iter((0.0, 1.0, 9.9, 10.0, 12.0))
    progress = DownloadLines("org/name", lambda: next(times_s), lines.append)

    for n_done in (0, 1_000_000, 5_000_000, 6_000_000, 20_000_000):
        progress.update(n_done, 20_000_000)

    assert lines == ["org/name: 0 B of 20 MB\n", "org/name: 6 MB of 20 MB\n", "org/name: 20 MB of 20 MB\n"]
