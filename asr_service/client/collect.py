"""The events of an upload, put together to one transcript."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadResponse, UploadCompleted
from asr_service.pb.asr.v1.transcript_pb2 import QualityFlag, Segment, Warning  # noqa: A004 - the contract's name


class UploadTranscript:
    """Feed it every event; after the last one `text` and the rest are complete. `started` begins it anew."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.segments: list[Segment] = []
        self.warnings: list[Warning] = []
        self.newest_text = ""  # of the segment that is open, else of the last one
        self.processed_ms = 0
        self.total_ms: int | None = None
        self.received_bytes = 0
        self._completed: UploadCompleted | None = None

    def feed(self, event: TranscribeUploadResponse) -> None:
        match event.WhichOneof("event"):
            case "started":  # a second one: everything comes anew
                self._begin()
            case "partial":
                self.newest_text = event.partial.text
            case "segment":
                self.segments.append(event.segment)
                self.newest_text = event.segment.text
            case "warning":
                self.warnings.append(event.warning)
            case "progress":
                self.processed_ms = event.progress.processed_ms
                self.total_ms = event.progress.total_ms if event.progress.HasField("total_ms") else None
                self.received_bytes = event.progress.received_bytes
            case "completed":
                self._completed = event.completed
                self.processed_ms = self.total_ms = event.completed.duration_ms

    @property
    def is_complete(self) -> bool:
        return self._completed is not None

    @property
    def truncated(self) -> list[Segment]:
        """The segments whose text ends early."""
        return [segment for segment in self.segments if QualityFlag.QUALITY_FLAG_TRUNCATED in segment.quality_flags]

    @property
    def completed(self) -> UploadCompleted:
        if self._completed is None:
            raise ValueError("the upload is not completed")
        return self._completed

    @property
    def text(self) -> str:
        return self.completed.text

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the names of the contract."""
        completed = _plain(self.completed)
        return {
            "text": completed["text"],
            "language": completed.get("language"),
            "duration_ms": completed["duration_ms"],
            "segments": [_plain(s) for s in self.segments],
            "engine": completed.get("engine"),
            "usage": completed.get("usage"),
            "timings": completed.get("timings"),
            "warnings": [_plain(w) for w in self.warnings],
        }


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return plain
