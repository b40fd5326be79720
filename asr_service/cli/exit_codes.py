"""What the exit code of `asr` says to a script."""

OK = 0
FAILED = 1  # some file failed, or a part of the system ended by itself
USAGE = 2  # an option or a setting is wrong
NOT_READY = 3  # no service answers there, or it does not get ready
INTERRUPTED = 130  # Ctrl-C

TRANSCRIBE_HELP = f"{OK} every file was transcribed; {FAILED} some file failed; {USAGE} wrong usage or setting; " + (
    f"{NOT_READY} the service cannot be reached or is not ready; {INTERRUPTED} interrupted."
)
SUBTITLES_HELP = (
    f"{OK} the subtitles were made; {FAILED} they were not; {USAGE} wrong usage or setting; "
    f"{NOT_READY} the service cannot be reached or is not ready; {INTERRUPTED} interrupted."
)
STREAM_HELP = (
    f"{OK} the session ended well; {FAILED} it failed, or the audio cannot be read; {USAGE} wrong usage or setting; "
    f"{NOT_READY} the service cannot be reached or is not ready; {INTERRUPTED} interrupted."
)
MODELS_HELP = (
    f"{OK} the model is there and sound; {FAILED} it could not be had, or is not sound; {USAGE} no such name or folder can be; "
    f"{INTERRUPTED} interrupted."
)
