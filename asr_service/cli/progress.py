"""How far the work is, on standard error: bars on a terminal; elsewhere nothing until it is long, then a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

LINE_EVERY_S = 10.0
_BAR_CELLS = 72  # a file's name, the bar and the times; text gets what the terminal is wider


class Progress(Protocol):
    """Told by the work, once per event. `text` is the newest there is."""

    def update(self, name: str, done_ms: int, total_ms: int | None, text: str = "") -> None: ...

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

    def update(self, name: str, done_ms: int, total_ms: int | None, text: str = "") -> None:
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
        from rich.table import Column

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[at]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
        )
        console = Console(stderr=True)
        self._text_cells = max(0, console.width - _BAR_CELLS)
        self._bars = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def update(self, name: str, done_ms: int, total_ms: int | None, text: str = "") -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, at="", text="")
        shown = tail(text, self._text_cells)
        self._bars.update(self._tasks[name], completed=done_ms, total=total_ms, at=clock(done_ms), text=shown)

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


def tail(text: str, n_cells: int) -> str:
    """The end of a text on one line of a terminal, as much as fits; what could move the cursor is left out."""
    from rich.cells import cell_len

    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if cell_len(line) <= n_cells:
        return line
    while line and cell_len(line) >= n_cells:
        line = line[1:]
    return f"…{line}" if n_cells > 0 else ""


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)
