"""What came back from the service for one recording, whichever way it was sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr_service.pb.asr.v1 import transcribe_pb2, transcript_pb2


@dataclass(slots=True)
class Transcription:
    """The end of the transcription, its segments in order, and what was ignored or adjusted."""

    completed: transcribe_pb2.UploadCompleted = field(default_factory=transcribe_pb2.UploadCompleted)
    segments: list[transcript_pb2.Segment] = field(default_factory=list)
    warnings: list[transcript_pb2.Warning] = field(default_factory=list)
