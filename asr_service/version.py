"""The version of the product."""

from importlib.metadata import version

VERSION = version("asr-service")
