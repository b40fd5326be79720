"""Who is served next, and who is let in. Pure decisions: no I/O, no asyncio, the time is an argument."""
