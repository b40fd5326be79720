"""bench/envoy.py at small size."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.stack.processes import run


@pytest.mark.soak
def test_the_measuring_program_measures(tmp_path: Path) -> None:
    out = tmp_path / "envoy.json"
    result = run([sys.executable, "bench/envoy.py", "--quick", "--out", str(out)], os.environ)

    assert result.returncode == 0, result.stderr
    rows = {row["id"]: row for row in json.loads(out.read_text())}
    assert {"E1.1", "E1.3", "E1.4", "E2.3", "E9"} <= rows.keys()
    assert all(row["conditions"]["engine"] == "fake" for row in rows.values())
    assert rows["E1.1"]["value"] > 0
