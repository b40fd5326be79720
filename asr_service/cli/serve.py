"""`asr serve`: the service alone."""

from __future__ import annotations

import sys

import uvloop

from asr_service import app, logs
from asr_service.audio.vad import VadModelMissing
from asr_service.cli import exit_codes
from asr_service.config import Settings
from asr_service.engine.protocol import EngineFailed
from asr_service.environment import BadSettings


def run_service() -> int:
    try:
        settings = Settings.load()
        logs.configure(settings.log_level, settings.log_format)
        uvloop.run(app.serve_forever(settings))
    except BadSettings as error:
        sys.stderr.write(f"{error}\n")
        return exit_codes.USAGE
    except (EngineFailed, VadModelMissing, OSError) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return exit_codes.FAILED
    return exit_codes.OK
