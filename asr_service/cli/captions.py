"""Live captions: what is decided as lines, and on a terminal below them what is being said, with the part dimmed that may still
change."""

from __future__ import annotations

from collections.abc import Callable

from asr_service.cli.progress import tail
from asr_service.client import StreamTranscribeResponse

_CLEAR = "\r\x1b[K"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Captions:
    """Feed it every event. `n_cells`: width of the terminal; None where there is none."""

    def __init__(self, write: Callable[[str], object], n_cells: int | None) -> None:
        self._write = write
        self._n_cells = n_cells
        self._is_shown = False

    def feed(self, event: StreamTranscribeResponse) -> None:
        match event.WhichOneof("event"):
            case "partial" if self._n_cells is not None:
                self._show(event.partial.committed, event.partial.tail, self._n_cells - 1)
            case "final":
                self.clear()
                if event.final.segment.text:
                    self._write(f"{event.final.segment.text}\n")
            case "started" | "end":
                self.clear()

    def clear(self) -> None:
        """The line is free for something else."""
        if self._is_shown:
            self._write(_CLEAR)
            self._is_shown = False

    def _show(self, committed: str, uncertain: str, n_cells: int) -> None:
        line = tail(committed + uncertain, n_cells)
        n_dim = min(len(line), len(" ".join(uncertain.split())))
        steady, dim = line[: len(line) - n_dim], line[len(line) - n_dim :]
        self._write(f"{_CLEAR}{steady}{_DIM}{dim}{_PLAIN}")
        self._is_shown = True
