"""What serving with the Qwen3-ASR engine brings into the process, and what it must not."""

from __future__ import annotations

import subprocess
import sys

from tests.stack.processes import ROOT

PROGRAM = """
import sys
import asr_service.app, asr_service.engines.qwen3
print(*(name for name in ("torch", "transformers", "qwen_asr", "librosa", "huggingface_hub") if name in sys.modules))
"""


def test_the_serving_path_imports_torch_but_neither_transformers_nor_the_hub() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.split() == ["torch"]
