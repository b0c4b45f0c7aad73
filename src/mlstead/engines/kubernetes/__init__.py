"""The Kubernetes engine: tasks as Jobs of a cluster."""

from mlstead.engines.kubernetes.making import create

__all__ = ["create"]
PART = create
