"""`asr models pull`, `asr models verify` and `asr models list --local`: the checkpoints on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from asr_service.cli import exit_codes
from asr_service.cli.progress import LINE_EVERY_S
from asr_service.engine.protocol import EngineFailed
from asr_service.model.checkpoint import Checkpoint
from asr_service.model.download import OnProgress, download
from asr_service.model.hub import BadModelId, LocalModel, local_models, locate

_LAYOUTS = {"thinker": "original", "native": "transformers"}


def pull_model(model_id: str) -> int:
    """Gets a model, checks it, and prints its folder."""

    def pull() -> None:
        with _progress(model_id) as on_progress:
            folder = download(model_id, on_progress)
        _report(folder)

    return _told(pull)


def verify_model(model_id: str) -> int:
    """Checks a model on this machine and prints its folder. Does not use the network."""
    return _told(lambda: _report(locate(model_id)))


def show_local_models(*, as_json: bool) -> int:
    def show() -> None:
        models = list(local_models())
        if as_json:
            sys.stdout.write(json.dumps({"models": [_values(model) for model in models]}, ensure_ascii=False, indent=2) + "\n")
        else:
            sys.stdout.write("".join(f"{_line(model)}\n" for model in models))

    return _told(show)


def size(n_bytes: int) -> str:
    """1.9 GB or 312 kB."""
    value, units = float(n_bytes), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f} {units[0]}" if units[0] == "GB" else f"{value:.0f} {units[0]}"


class DownloadLines:
    """For logs: a line at the start, now and then, and at the end."""

    def __init__(self, name: str, now_s: Callable[[], float], write: Callable[[str], None]) -> None:
        self._name, self._now_s, self._write = name, now_s, write
        self._last_s: float | None = None

    def update(self, n_done: int, n_total: int) -> None:
        now_s = self._now_s()
        is_due = self._last_s is None or now_s - self._last_s >= LINE_EVERY_S or n_done == n_total
        if is_due:
            self._last_s = now_s
            self._write(f"{self._name}: {size(n_done)} of {size(n_total)}\n")


@contextmanager
def _progress(name: str) -> Iterator[OnProgress]:
    if not sys.stderr.isatty():
        yield DownloadLines(name, monotonic, lambda line: _complain(line, end="")).update
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None)
        yield lambda n_done, n_total: bars.update(task, completed=n_done, total=n_total)


def _report(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    config = checkpoint.config
    _complain(
        f"verified: {checkpoint.n_parameters / 1e6:.1f} M parameters in {config.dtype}, {size(checkpoint.n_bytes)}, "
        f"{_LAYOUTS[config.layout]} layout, {len(config.spoken)} languages"
    )
    sys.stdout.write(f"{folder}\n")


def _told(work: Callable[[], None]) -> int:
    try:
        work()
    except EngineFailed as error:
        _complain(f"asr: {error}")
        return exit_codes.USAGE if isinstance(error, BadModelId) else exit_codes.FAILED
    except KeyboardInterrupt:
        _complain("asr: interrupted; what is there is kept for the next attempt")
        return exit_codes.INTERRUPTED
    return exit_codes.OK


def _line(model: LocalModel) -> str:
    state = f"incomplete: {model.lack}" if model.lack else "complete"
    return "\t".join((model.model_id, size(model.n_bytes), state, str(model.folder)))


def _values(model: LocalModel) -> dict[str, object]:
    return {"id": model.model_id, "folder": str(model.folder), "bytes": model.n_bytes, "lack": model.lack}


def _complain(line: str, end: str = "\n") -> None:
    sys.stderr.write(line + end)
    sys.stderr.flush()
