"""Reads a multipart form as it arrives: small text fields whole, files in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from rest_bridge.errors import HttpError, file_too_large

PIECE_BYTES = 64 * 1024
MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 200
_PLAIN_ENCODINGS = ("", "binary", "8bit", "7bit")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TextField:
    """A form field with its value."""

    name: str
    value: str


class FilePart:
    """A file within the form; its bytes are read with `pieces`, before the next part is asked for."""

    def __init__(self, form: Form, name: str, part: BodyPartReader) -> None:
        self.name = name
        self.content_type = part.headers.get("Content-Type", "")
        self._form = form
        self._part = part

    async def pieces(self) -> AsyncIterator[bytes]:
        while piece := await self._form.read(self._part):
            self._form.count(len(piece))
            yield piece


class Form:
    """The form of one request. Every wait for the client is bounded; breaches of the format end in an HttpError."""

    def __init__(self, request: web.Request, *, max_file_bytes: int, idle_timeout_s: float) -> None:
        if request.content_type != "multipart/form-data":
            raise _malformed(f"the body must be multipart/form-data, not {request.content_type!r}")
        self._request = request
        self._max_file_bytes = max_file_bytes
        self._idle_timeout_s = idle_timeout_s
        self._file_bytes = 0

    async def parts(self) -> AsyncIterator[TextField | FilePart]:
        """The parts in order of arrival."""
        reader: MultipartReader = await self._wait(self._request.multipart())
        n_parts = 0
        while (part := await self._wait(reader.next())) is not None:
            n_parts += 1
            if n_parts > MAX_PARTS:
                raise _malformed(f"the form has more than {MAX_PARTS} parts")
            if not isinstance(part, BodyPartReader):
                raise _malformed("a part of the form is itself multipart")
            yield await self._open(part)

    async def read(self, part: BodyPartReader) -> bytes:
        """The next bytes of a part, empty at its end."""
        while not part.at_eof():
            if piece := await self._wait(part.read_chunk(PIECE_BYTES)):
                return piece
        return b""

    def count(self, n_bytes: int) -> None:
        self._file_bytes += n_bytes
        if self._file_bytes > self._max_file_bytes:
            raise file_too_large(self._file_bytes, self._max_file_bytes)

    async def _open(self, part: BodyPartReader) -> TextField | FilePart:
        name = part.name
        if not name:
            raise _malformed("a part of the form has no name")
        encoding = part.headers.get("Content-Transfer-Encoding", "").lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise _malformed(f"{name}: Content-Transfer-Encoding {encoding!r} is not supported, only binary")
        if name == "file" or part.filename is not None:
            return FilePart(self, name, part)
        value = bytearray()
        while piece := await self.read(part):
            value += piece
            if len(value) > MAX_FIELD_BYTES:
                raise _malformed(f"{name}: the value has more than {MAX_FIELD_BYTES} bytes", param=name)
        try:
            return TextField(name, value.decode())
        except UnicodeDecodeError:
            raise _malformed(f"{name}: the value is not UTF-8", param=name) from None

    async def _wait(self, step: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await step
        except TimeoutError:
            message = f"no bytes of the upload came for {self._idle_timeout_s:g} s"
            raise HttpError(408, message, code="upload_idle") from None
        except (ValueError, RuntimeError, HttpProcessingError, web.RequestPayloadError):
            # What aiohttp raises for a form it cannot read; its texts quote the body.
            raise _malformed("the multipart body is malformed or ends early") from None


def _malformed(message: str, param: str | None = None) -> HttpError:
    return HttpError(400, message, code="malformed_form" if param is None else "invalid_value", param=param)
