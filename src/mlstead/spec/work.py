"""The work file as frozen data: job, sweep, pipeline, service, notebook."""

from mlstead.spec.base import Model
from mlstead.spec.job import (
    CacheRule,
    Code,
    Data,
    Gpu,
    Job,
    JobBody,
    Message,
    Output,
    Pick,
    Python,
    Resources,
    Retries,
    RetryReason,
    SecretFile,
    Workers,
)
from mlstead.spec.notebook import Notebook
from mlstead.spec.pipeline import (
    JobStep,
    Pipeline,
    ServiceStep,
    Step,
    StepRules,
    SweepStep,
    When,
)
from mlstead.spec.service import Gate, Replicas, Rollout, Service, ServiceBody, ServiceVersion
from mlstead.spec.sweep import Metric, Prune, Search, Space, Sweep, SweepBody

Work = Job | Sweep | Pipeline | Service | Notebook

KINDS: dict[str, type[Model]] = {
    "job": Job,
    "sweep": Sweep,
    "pipeline": Pipeline,
    "service": Service,
    "notebook": Notebook,
}
"""The model of each kind of work file."""

__all__ = [
    "KINDS",
    "CacheRule",
    "Code",
    "Data",
    "Gate",
    "Gpu",
    "Job",
    "JobBody",
    "JobStep",
    "Message",
    "Metric",
    "Notebook",
    "Output",
    "Pick",
    "Pipeline",
    "Prune",
    "Python",
    "Replicas",
    "Resources",
    "Retries",
    "RetryReason",
    "Rollout",
    "Search",
    "SecretFile",
    "Service",
    "ServiceBody",
    "ServiceStep",
    "ServiceVersion",
    "Space",
    "Step",
    "StepRules",
    "Sweep",
    "SweepBody",
    "SweepStep",
    "When",
    "Work",
    "Workers",
]
