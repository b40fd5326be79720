"""How long a service takes from its process's first instruction until it says SERVING, engine by engine.

The embedded engine, our own Qwen3-ASR engine and the stock package behind the same service take turns in one run, on the
project's small checkpoint, so what is measured is imports and warming up and not the reading of gigabytes. Prints a table and
writes bench/results/startup.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import psutil

from asr_service.cli.children import free_port
from asr_service.client import AsrClient

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results/startup.json"
CHECKPOINT = str(ROOT / "tests/data/qwen3/small")
HOST = "127.0.0.1"
ROUNDS = 5
LIMIT_S = 180.0
ENGINES = {
    "pocketsphinx": {"ENGINE": "pocketsphinx"},
    "qwen3": {"ENGINE": "qwen3", "MODEL_ID": CHECKPOINT, "DEVICE": "cpu"},
    "reference": {"ENGINE": "reference", "MODEL_ID": CHECKPOINT, "DEVICE": "cpu"},
}


async def start_once(settings: dict[str, str]) -> tuple[float, int]:
    """Seconds until ready, and the resident bytes of the service with its children then."""
    port = free_port()
    environ = {**os.environ, "HOST": HOST, "GRPC_PORT": str(port), "METRICS_ENABLED": "false", "LOG_LEVEL": "error", **settings}
    started_s = perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "asr_service", "serve", env=environ)
    try:
        async with AsrClient(f"{HOST}:{port}") as client:
            await client.wait_ready(LIMIT_S)
            ready_s = perf_counter() - started_s
            service = psutil.Process(process.pid)
            resident = sum(each.memory_info().rss for each in (service, *service.children(recursive=True)))
    finally:
        process.terminate()
        await process.wait()
    return ready_s, resident


async def measure() -> list[dict[str, object]]:
    took: dict[str, list[float]] = {name: [] for name in ENGINES}
    resident: dict[str, list[float]] = {name: [] for name in ENGINES}
    for _ in range(ROUNDS):
        for name, settings in ENGINES.items():
            ready_s, n_bytes = await start_once(settings)
            took[name].append(ready_s)
            resident[name].append(n_bytes / 2**20)
    made = [row(f"{name}: ready", times, "s") for name, times in took.items()]
    made += [row(f"{name}: memory when ready, decoders and workers included", sizes, "MiB") for name, sizes in resident.items()]
    ratios = [reference / ours for reference, ours in zip(took["reference"], took["qwen3"], strict=True)]
    return [*made, row("reference / qwen3, ready", ratios, "x") | {"baseline": "the stock package behind the same service"}]


def row(what: str, values: list[float], unit: str) -> dict[str, object]:
    rounded = [round(value, 2) for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("what", "value", "min", "max"), (what, *rounded), strict=True)) | {"unit": unit}


def conditions() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit,
        "rounds": ROUNDS,
        "checkpoint": "tests/data/qwen3/small, files in the page cache",
    }


def main() -> None:
    made = asyncio.run(measure())
    for entry in made:
        print(f"{entry['what']:65} {entry['value']:8} {entry['unit']}  ({entry['min']} to {entry['max']})")
    shared = conditions()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([entry | {"conditions": shared} for entry in made], indent=2) + "\n")


if __name__ == "__main__":
    main()
