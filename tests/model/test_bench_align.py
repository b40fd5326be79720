"""bench/align.py at small size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stack.processes import ROOT


def test_quick_measures_everything_and_writes_rows(tmp_path: Path) -> None:
    out = tmp_path / "align.json"
    environ = {**os.environ, "PYTHONPATH": ""}

    command = [sys.executable, "bench/align.py", "--quick", "--out", str(out)]
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    rows = {row["id"]: row for row in json.loads(out.read_text())}
    assert list(rows) == ["A1", "A2", "A3", "A4", "A5"]
    assert rows["A2"]["value"] == 0
    assert all(f"{name}  " in result.stdout for name in rows)
