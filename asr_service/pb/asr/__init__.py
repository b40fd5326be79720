"""Generated from proto/asr/v1 by `make generate`; never edited."""
