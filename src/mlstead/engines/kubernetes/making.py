"""Makes a Kubernetes engine from what a context says."""

from mlstead.engines.base import Place
from mlstead.engines.kubernetes.engine import KubernetesEngine
from mlstead.engines.kubernetes.settings import settings_of


def create(place: Place) -> KubernetesEngine:
    """Make the engine of a context; nothing is asked of the cluster yet.

    Raises:
        UserError: the context lacks something that pods need.
    """
    return KubernetesEngine(
        settings_of(place.home, place.name, place.options, place.artifacts, place.endpoint)
    )
