"""The local engine: tasks as processes of this machine that outlive whoever submitted them."""

from mlstead.engines.local.making import create

__all__ = ["create"]
PART = create
