"""Rows of results as all measuring programs write them: for people a table, for docs/performance.md a JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


def row(
    id_: str,
    what: str,
    values: Sequence[float] | float,
    unit: str,
    *,
    target: str = "",
    met: bool | None = None,
    baseline: str = "",
    **conditions: object,
) -> Row:
    """One figure. Of several values the median is meant, and their range is told."""
    several = [values] if isinstance(values, int | float) else list(values)
    made: Row = {"id": id_, "what": what, "value": round(statistics.median(several), 3), "unit": unit, "target": target}
    made |= {"met": met, "baseline": baseline}
    if len(several) > 1:
        made |= {"min": round(min(several), 3), "max": round(max(several), 3), "n": len(several)}
    return made | {"conditions": dict(conditions)}


def at_least(values: Sequence[float], wanted: float) -> dict[str, Any]:
    """`target` and `met` for values whose median should reach this."""
    return {"target": f">= {wanted:g}", "met": statistics.median(values) >= wanted}


def machine() -> dict[str, object]:
    """What the figures of one run have in common."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cores of the machine": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit or "unknown",
        "load average at the start": round(os.getloadavg()[0], 1),
    }


def show(rows: Sequence[Row]) -> None:
    for entry in rows:
        spread = f"{entry['min']:g} .. {entry['max']:g}" if "min" in entry else ""
        verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
        value = f"{entry['value']:10g} {entry['unit']:6} {spread:20}"
        print(f"{entry['id']:5} {entry['what']:68} {value} {entry['target']:9} {verdict}")


def write(path: Path, rows: Sequence[Row]) -> None:
    """Replaces the rows of the same ids in the file and keeps the others, so that one subject can be measured alone."""
    ids = {entry["id"] for entry in rows}
    old = json.loads(path.read_text()) if path.is_file() else []
    merged = [entry for entry in old if entry["id"] not in ids] + list(rows)
    merged.sort(
        key=lambda entry: (
            entry["id"].rstrip("0123456789"),
            int(entry["id"].lstrip("ACH") or 0) if entry["id"][-1].isdigit() else 0,
        )
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(merged, indent=2) + "\n")


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
