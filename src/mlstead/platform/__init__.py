"""The one door for the command line, the web pages and the Python SDK."""

from mlstead.platform.facade import Platform

__all__ = ["Platform"]
