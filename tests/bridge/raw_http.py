"""HTTP written by hand: forms in any order, uploads that stall, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

BOUNDARY = "----a-test-boundary"
PATH = "/v1/audio/transcriptions"


@dataclass
class Answer:
    """Status, headers (lower case) and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Part = tuple[str, str] | tuple[str, bytes]


def part_head(name: str, *, is_file: bool) -> bytes:
    filename = '; filename="a.wav"\r\nContent-Type: audio/wav' if is_file else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode()


def form(parts: Sequence[Part]) -> bytes:
    """Text parts are fields, bytes parts are files; in this order."""
    body = b""
    for name, value in parts:
        data = value if isinstance(value, bytes) else value.encode()
        body += part_head(name, is_file=isinstance(value, bytes)) + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


class Connection:
    """One connection to the bridge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def begin(self, method: str, path: str, headers: dict[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "test", **headers}.items())
        await self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())

    async def begin_form(self, length: int, headers: dict[str, str] | None = None) -> None:
        content_type = f"multipart/form-data; boundary={BOUNDARY}"
        await self.begin("POST", PATH, {"Content-Type": content_type, "Content-Length": str(length), **(headers or {})})

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(status_line.split()[1]), headers, body)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


async def get(url: str, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    async with connected(url) as connection:
        await connection.begin(method, path, headers or {})
        return await connection.answer()


async def post_form(url: str, parts: Sequence[Part], headers: dict[str, str] | None = None) -> Answer:
    return await post_body(url, form(parts), headers)


async def post_body(url: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    async with connected(url) as connection:
        await connection.begin_form(len(body), headers)
        await connection.send(body)
        return await connection.answer()
