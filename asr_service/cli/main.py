"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from asr_service.cli import exit_codes

app = typer.Typer(
    name="asr",
    help="Self-hosted speech recognition: the service, its HTTP bridge, and a client for both.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(help="The models a service can use.", no_args_is_help=True)
app.add_typer(models, name="models")


class Format(StrEnum):
    """What a transcript is written as."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


class SubtitleForm(StrEnum):
    """What subtitles are written as."""

    SRT = "srt"
    VTT = "vtt"
    JSON = "json"
    ASS = "ass"


class Mode(StrEnum):
    """Where the times of subtitles come from."""

    ACCURATE = "accurate"
    FAST = "fast"


Server = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", envvar="ASR_SERVER", help="The service to ask. Without it one is started in this process."
    ),
]
ApiKey = Annotated[str | None, typer.Option(metavar="KEY", envvar="ASR_API_KEY", help="The key to show to the service.")]

Wait = Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long --server may take to be ready.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelId = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_ID", help="A name on the hub, such as Qwen/Qwen3-ASR-0.6B (with @REVISION for another one), or a folder."
    ),
]
_MODEL_CODES = f"Exit codes: {exit_codes.MODELS_HELP}"


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"asr {version('asr-service')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Self-hosted speech recognition: the service, its HTTP bridge, and a client for both."""


@app.command()
def serve() -> None:
    """Run the gRPC service alone, in the foreground. Settings come from the environment (docs/operations.md)."""
    from asr_service.cli.serve import run_service

    raise typer.Exit(run_service())


@app.command()
def up() -> None:
    """Run the service and the HTTP bridge, and print three calls to try. Ctrl-C finishes what runs and stops both."""
    from asr_service.cli.up import run_up

    _finish(run_up())


@app.command()
def demo(
    sample: Annotated[
        Path | None,
        typer.Option(help="A recording with its text beside it as .txt. Default: the source's own."),
    ] = None,
) -> None:
    """Start everything, transcribe a sample over gRPC, HTTP and this command, and compare. Exits 0 if all three are right."""
    from asr_service.cli.demo import run_demo

    _finish(run_demo(sample))


@app.command(epilog=f"Exit codes: {exit_codes.TRANSCRIBE_HELP}")
def transcribe(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Recordings in any common format; - is standard input.")],
    form: Annotated[Format, typer.Option("--format", "-f", help="How to write the transcript.")] = Format.TEXT,
    language: Annotated[
        str | None, typer.Option("--language", "-l", help='The language spoken: "en", "pt-BR", "German". Default: detected.')
    ] = None,
    context: Annotated[str, typer.Option(help="Names or a topic that steer recognition, where the engine can.")] = "",
    words: Annotated[bool, typer.Option("--words", help="Add each word's time and confidence to --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, or to FILE's name in this folder.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Files sent at once.")] = 4,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1.0, help="How long one file may take.")] = 86400.0,
    server: Server = None,
    api_key: ApiKey = None,
    wait: Wait = 10.0,
) -> None:
    """Transcribe files; several come out in the order given, text lines with the file's name in front."""
    from asr_service.cli.output import Sink, UsageError
    from asr_service.cli.transcribe import Wanted, transcribe_files

    try:
        sink = Sink.of(files, form.value, output)
        wanted = Wanted.of(form.value, language, context, words=words, timeout_s=timeout)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    _finish(transcribe_files(files, wanted, sink, jobs=jobs, server=server, api_key=api_key, wait_s=wait))


@app.command(epilog=f"Exit codes: {exit_codes.STREAM_HELP}")
def stream(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A recording in any common format; - is raw 16-bit mono from standard input."),
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", help="Listen to the microphone until Ctrl-C.")] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Send FILE as fast as it was spoken, and measure delays.")
    ] = False,
    rate: Annotated[
        int | None, typer.Option(metavar="HZ", min=8000, max=192_000, help="Samples a second of - and --mic. Default: 16000.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
    language: Annotated[
        str | None, typer.Option("--language", "-l", help='The language spoken: "en", "pt-BR", "German". Default: detected.')
    ] = None,
    context: Annotated[str, typer.Option(help="Names or a topic that steer recognition, where the engine can.")] = "",
    server: Server = None,
    api_key: ApiKey = None,
    wait: Wait = 10.0,
) -> None:
    """Show what is said while it is said: decided text as lines, on a terminal also what is being said. Delays go to stderr."""
    from asr_service.cli.output import UsageError
    from asr_service.cli.stream import Wanted
    from asr_service.cli.stream import stream as run_stream

    try:
        wanted = Wanted.of(
            file, mic=mic, at_own_speed=realtime, rate_hz=rate, as_json=as_json, language=language, context=context
        )
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    _finish(run_stream(wanted, server=server, api_key=api_key, wait_s=wait))


@app.command(epilog=f"Exit codes: {exit_codes.SUBTITLES_HELP}")
def subtitles(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recording in any common format; - is standard input.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, in the format its name ends with.")
    ] = None,
    form: Annotated[SubtitleForm | None, typer.Option("--format", "-f", help="Default: as --output says, else srt.")] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Where times come from: the aligner, or speech itself. Default: the best there is.")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", "-l", help='The language spoken: "en", "pt-BR", "German". Default: detected.')
    ] = None,
    context: Annotated[str, typer.Option(help="Names or a topic that steer recognition, where the engine can.")] = "",
    live: Annotated[bool, typer.Option("--live", help="Write each cue as soon as it was spoken and a pause came.")] = False,
    max_line_chars: Annotated[
        int | None, typer.Option(metavar="N", help="Characters a line; wide ones count twice. Default: 42.")
    ] = None,
    max_lines: Annotated[int | None, typer.Option(metavar="N", help="Lines a cue, 1 or 2. Default: 2.")] = None,
    max_duration: Annotated[float | None, typer.Option(metavar="SECONDS", help="Longest time on screen. Default: 7.")] = None,
    min_duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Shortest time on screen. Default: 0.833.")
    ] = None,
    min_gap: Annotated[float | None, typer.Option(metavar="SECONDS", help="Between two cues. Default: 0.083.")] = None,
    pause: Annotated[float | None, typer.Option(metavar="SECONDS", help="A pause that ends a cue. Default: 0.5.")] = None,
    max_cps: Annotated[
        float | None, typer.Option("--max-cps", metavar="N", help="Characters a second people can read. Default: 20.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1.0, help="How long it may take.")] = 86400.0,
    server: Server = None,
    api_key: ApiKey = None,
    wait: Wait = 10.0,
) -> None:
    """Make subtitles of a recording (docs/subtitles.md)."""
    from asr_service.cli.output import UsageError
    from asr_service.cli.subtitles import Options, Wanted, make_subtitles

    options = Options(
        form and form.value, mode and mode.value, language, context, live,
        max_line_chars, max_lines, max_duration, min_duration, min_gap, pause, max_cps,
    )  # fmt: skip
    try:
        wanted = Wanted.of(file, output, options, timeout)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    _finish(make_subtitles(wanted, server=server, api_key=api_key, wait_s=wait))


@models.command("list")
def models_list(
    local: Annotated[
        bool,
        typer.Option("--local", help="List the checkpoints in this machine's Hugging Face cache instead."),
    ] = False,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
    wait: Wait = 10.0,
) -> None:
    """List the models that can be used now, the default first."""
    if local:
        from asr_service.cli.models import show_local_models

        raise typer.Exit(show_local_models(as_json=as_json))
    from asr_service.cli.info import show_models

    _finish(show_models(server, api_key, as_json, wait))


@models.command("pull", epilog=_MODEL_CODES)
def models_pull(model_id: ModelId) -> None:
    """Download a model from the Hugging Face hub, check it, and print its folder. What is there already is kept."""
    from asr_service.cli.models import pull_model

    raise typer.Exit(pull_model(model_id))


@models.command("verify", epilog=_MODEL_CODES)
def models_verify(model_id: ModelId) -> None:
    """Check a model on this machine: its configuration, and name, shape and size of everything in it. Prints its folder."""
    from asr_service.cli.models import verify_model

    raise typer.Exit(verify_model(model_id))


@app.command()
def info(as_json: AsJson = False, server: Server = None, api_key: ApiKey = None, wait: Wait = 10.0) -> None:
    """Say what a service can do, within which limits, and how busy it is."""
    from asr_service.cli.info import show_info

    _finish(show_info(server, api_key, as_json, wait))


def _finish(work: Coroutine[Any, Any, int]) -> None:
    from asr_service.environment import BadSettings

    try:
        code = asyncio.run(work)
    except BadSettings as error:
        sys.stderr.write(f"{error}\n")
        code = exit_codes.USAGE
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED
    raise typer.Exit(code)


def main() -> None:
    # Read by gRPC when it is first imported. Subprocesses are executed at once after the fork, so its fork handlers only get in
    # the way, and its remarks are not for users.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    app()
