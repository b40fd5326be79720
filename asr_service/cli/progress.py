"""How far the work is, on standard error: bars on a terminal; elsewhere nothing until it is long, then a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

LINE_EVERY_S = 10.0


class Progress(Protocol):
    """Told by the work, once per event."""

    def update(self, name: str, done_ms: int, total_ms: int | None) -> None: ...

    def finish(self, name: str) -> None: ...

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While it lasts, others may write to the terminal."""
        ...


@contextmanager
def shown_progress() -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield Lines(monotonic, _to_stderr)
        return
    bars = Bars()
    try:
        yield bars
    finally:
        bars.close()


class Lines:
    """For logs: a line about a file that has been worked on for long, and again after as long."""

    def __init__(self, now_s: Callable[[], float], write: Callable[[str], None]) -> None:
        self._now_s, self._write = now_s, write
        self._last_s: dict[str, float] = {}

    def update(self, name: str, done_ms: int, total_ms: int | None) -> None:
        now_s = self._now_s()
        if now_s - self._last_s.setdefault(name, now_s) < LINE_EVERY_S:
            return
        self._last_s[name] = now_s
        self._write(f"{name}: {clock(done_ms)} of {clock(total_ms) if total_ms is not None else 'an unknown length'}\n")

    def finish(self, name: str) -> None:
        self._last_s.pop(name, None)

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield


class Bars:
    """For people."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bars = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def update(self, name: str, done_ms: int, total_ms: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, at="")
        self._bars.update(self._tasks[name], completed=done_ms, total=total_ms, at=clock(done_ms))

    def finish(self, name: str) -> None:
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()

    def close(self) -> None:
        self._bars.stop()


def clock(ms: int) -> str:
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)
