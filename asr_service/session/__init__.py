"""A live session without I/O: samples, probabilities and hypotheses in; events and wishes to the recogniser out."""
