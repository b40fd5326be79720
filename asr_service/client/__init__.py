"""The public Python client of the service.

    async with AsrClient("127.0.0.1:50051") as client:
        response = await client.transcribe(Path("clip.flac").read_bytes(), RecognitionConfig(language="en"))
        print(response.transcript.text)

Messages are those of the contract (proto/asr/v1), which is also their manual. Every failure is an AsrClientError.
"""

from asr_service.client.client import AsrClient
from asr_service.client.collect import UploadTranscript
from asr_service.client.errors import NOT_READY, SESSION_OVER, UNREACHABLE, AsrClientError
from asr_service.client.stream import StreamSession
from asr_service.client.subtitles import SubtitleFile, SubtitleWish
from asr_service.pb.asr.v1.audio_pb2 import AudioEncoding, AudioFormat
from asr_service.pb.asr.v1.info_pb2 import GetServerInfoResponse, ListModelsResponse
from asr_service.pb.asr.v1.stream_pb2 import (
    ConfigPatch,
    Endpointing,
    EndpointMode,
    Partials,
    SessionConfig,
    SessionEndReason,
    SpeechEventType,
    StreamTranscribeResponse,
)
from asr_service.pb.asr.v1.subtitles_pb2 import CueRules, SubtitleFormat, SubtitleMode, SubtitlesResponse
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeResponse, TranscribeUploadResponse
from asr_service.pb.asr.v1.transcript_pb2 import RecognitionConfig, Word

__all__ = [
    "NOT_READY",
    "SESSION_OVER",
    "UNREACHABLE",
    "AsrClient",
    "AsrClientError",
    "AudioEncoding",
    "AudioFormat",
    "ConfigPatch",
    "CueRules",
    "EndpointMode",
    "Endpointing",
    "GetServerInfoResponse",
    "ListModelsResponse",
    "Partials",
    "RecognitionConfig",
    "SessionConfig",
    "SessionEndReason",
    "SpeechEventType",
    "StreamSession",
    "StreamTranscribeResponse",
    "SubtitleFile",
    "SubtitleFormat",
    "SubtitleMode",
    "SubtitleWish",
    "SubtitlesResponse",
    "TranscribeResponse",
    "TranscribeUploadResponse",
    "UploadTranscript",
    "Word",
]
