"""Live sessions at work: bytes in, events out, with decoders, the detector and the engine between."""
