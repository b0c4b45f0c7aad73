"""The public names of mlstead, each loaded when it is first used."""

from importlib import import_module

TYPE_CHECKING = False  # as typing's, whose import takes longer than all else that a call needs
if TYPE_CHECKING:
    from mlstead.errors import PlatformError as PlatformError
    from mlstead.platform import Platform as Platform
    from mlstead.runner.checkpoints import latest_checkpoint as latest_checkpoint
    from mlstead.runner.checkpoints import save_checkpoint as save_checkpoint
    from mlstead.runner.folders import checkpoints as checkpoints
    from mlstead.runner.folders import inputs as inputs
    from mlstead.runner.folders import outputs as outputs
    from mlstead.runner.folders import params as params
    from mlstead.runner.metrics import log as log
    from mlstead.runner.stopping import should_stop as should_stop
    from mlstead.spec.load import load as load
    from mlstead.spec.work import Job as Job
    from mlstead.spec.work import Pipeline as Pipeline
    from mlstead.spec.work import Service as Service
    from mlstead.spec.work import Sweep as Sweep

_PLACES = {
    "Platform": "mlstead.platform",
    "PlatformError": "mlstead.errors",
    "load": "mlstead.spec.load",
    "Job": "mlstead.spec.work",
    "Sweep": "mlstead.spec.work",
    "Pipeline": "mlstead.spec.work",
    "Service": "mlstead.spec.work",
    "checkpoints": "mlstead.runner.folders",
    "inputs": "mlstead.runner.folders",
    "latest_checkpoint": "mlstead.runner.checkpoints",
    "log": "mlstead.runner.metrics",
    "outputs": "mlstead.runner.folders",
    "params": "mlstead.runner.folders",
    "save_checkpoint": "mlstead.runner.checkpoints",
    "should_stop": "mlstead.runner.stopping",
}


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'mlstead' has no attribute {name!r}")
    value: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value
