"""The command `asr`. Only what a command needs is imported when it runs, so that help and completion answer at once."""
