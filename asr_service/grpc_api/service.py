"""What the RPCs work with."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from asr_service.config import Settings
from asr_service.engine.protocol import Engine, EngineState
from asr_service.errors import EngineGone, Starting
from asr_service.live.sessions import LiveSessions
from asr_service.request import Priority, WorkIds
from asr_service.scheduler.admission import Admission, Ticket
from asr_service.transcriber.known_text import TextAligner
from asr_service.transcriber.transcriber import Transcriber


@dataclass(slots=True)
class Service:
    """Of one server."""

    settings: Settings
    engine: Engine
    transcriber: Transcriber
    admission: Admission
    start_time: Timestamp
    live: LiveSessions
    ids: WorkIds  # of whatever goes to the engine
    texts: TextAligner | None = None  # None: no aligner

    def admit(self, n_bytes: int, priority: Priority) -> Ticket:
        """A place inside the server, to be given back. Raises Starting, EngineGone, Overloaded."""
        if self.engine.state is EngineState.FAILED:
            raise EngineGone("the recogniser has failed and cannot be started again", retry_after_s=60.0)
        if self.engine.state is not EngineState.READY:
            raise Starting("the recogniser is not ready", retry_after_s=1.0)
        return self.admission.admit(n_bytes, priority=priority, expected_wait_s=self.engine.load.expected_wait_s)
