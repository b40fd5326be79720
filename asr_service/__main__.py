"""`python -m asr_service` is `asr`."""

from asr_service.cli.main import main

if __name__ == "__main__":
    main()
