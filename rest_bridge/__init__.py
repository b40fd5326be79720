"""HTTP dialects of the speech service: an aiohttp server that is a gRPC client of it and nothing else."""
