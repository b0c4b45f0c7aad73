"""The work file as frozen data: job, sweep, pipeline, service, notebook."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mlstead.spec.base import Bytes, FrozenMap, Model, Name, Positive, Seconds

RetryReason = Literal["error", "oom", "lost", "timeout", "evicted", "preempted"]


class Code(Model):
    """The folder that travels with the work."""

    path: str = "."
    include: tuple[str, ...] = ()


class Python(Model):
    """The Python environment: a lock file, or requirements resolved at submission."""

    version: str = ""
    lock: str = ""
    requirements: str = ""


class Data(Model):
    """Where one input comes from: exactly one of version, step, path, url."""

    version: str = ""
    step: str = ""
    output: str = ""
    path: str = ""
    url: str = ""
    sha256: str = ""
    mode: Literal["copy", "link", "mount"] = "link"
    pick: Pick | None = None


class Pick(Model):
    """Of a foreach step's outputs, the one whose value is best."""

    by: str
    goal: Literal["min", "max"] = "max"


class Output(Model):
    """Something the work leaves behind under ``$MLSTEAD_OUTPUTS``."""

    kind: Literal["data", "model", "value", "files"] = "data"
    name: str = ""
    ranks: Literal["first", "all"] = "first"
    alias: tuple[str, ...] = ()


class Gpu(Model):
    """Which graphics processors, and how many."""

    count: Positive = 1
    kind: tuple[str, ...] = ()
    memory: str = ""
    slice: str = ""


class Resources(Model):
    """What one worker needs: cores, bytes, GPUs."""

    cpu: Annotated[float, Field(ge=0)] = 1
    memory: Bytes = 2 << 30
    gpu: int | Gpu = 0
    shm: Bytes | None = None
    disk: Bytes | None = None


class Workers(Model):
    """Several processes that work on one thing and start together."""

    count: Positive = 1
    processes: Positive | Literal["gpu"] = 1
    framework: Literal["torch", "tensorflow", "ray", "none"] = "none"
    launcher: Literal["mlstead", "own"] = "mlstead"
    min: int | None = None
    via: str = ""


class Retries(Model):
    """How often, and for which reasons, to try again."""

    max: Annotated[int, Field(ge=0)] = 0
    for_: Annotated[tuple[RetryReason, ...], Field(alias="for")] = ("error", "oom", "lost")


class SecretFile(Model):
    """A secret given as a file in a 0700 folder."""

    name: str
    file: str


class Message(Model):
    """Whom to tell, and when."""

    to: str
    when: tuple[Literal["started", "succeeded", "failed", "cancelled"], ...] = ("failed",)


class CacheRule(Model):
    """When the outputs of an earlier equal step may stand for this one's."""

    key_extra: str = ""
    ttl: Seconds | None = None


class JobBody(Model):
    """What a job is, wherever it stands."""

    description: str = ""
    labels: FrozenMap[str, str] = Field(default_factory=dict)
    command: str | tuple[str, ...]
    code: Code | None = Code()
    working_dir: str = ""
    python: Python | None = None
    image: str = ""
    setup: str = ""
    params: FrozenMap[str, Any] = Field(default_factory=dict)
    data: FrozenMap[str, Data] = Field(default_factory=dict)
    mounts: FrozenMap[str, str] = Field(default_factory=dict)
    outputs: FrozenMap[str, Output] = Field(default_factory=dict)
    resources: Resources = Resources()
    workers: Workers | None = None
    retries: Retries = Retries()
    timeout: Seconds | None = None
    max_queue_time: Seconds | None = None
    grace: Seconds = 10.0
    queue: str = ""
    priority: str = "normal"
    env: FrozenMap[str, str] = Field(default_factory=dict)
    secrets: FrozenMap[str, str | SecretFile] = Field(default_factory=dict)
    notify: tuple[Message, ...] = ()
    ports: FrozenMap[str, int] = Field(default_factory=dict)
    seed: int | None = None
    native: FrozenMap[str, Any] = Field(default_factory=dict)


class Job(JobBody):
    """One command to run to its end, on one or several workers."""

    mlstead: Literal[1] = 1
    kind: Literal["job"] = "job"
    name: Name


class Space(Model):
    """The values one parameter may take; exactly one of float, int, choice."""

    float_: Annotated[tuple[float, float] | None, Field(alias="float")] = None
    int_: Annotated[tuple[int, int] | None, Field(alias="int")] = None
    choice: tuple[Any, ...] | None = None
    log: bool = False
    step: float | None = None


class Search(Model):
    """How points are chosen: a method over a space, or a list of points."""

    method: Literal["grid", "random", "tpe", "cmaes"] = "tpe"
    seed: int = 0
    space: FrozenMap[str, Space] = Field(default_factory=dict)
    points: tuple[FrozenMap[str, Any], ...] = ()


class Metric(Model):
    """The figure a sweep looks at."""

    name: str
    goal: Literal["min", "max"]
    take: Literal["last", "best"] = "last"


class SweepBody(Model):
    """Many trials of one job."""

    description: str = ""
    labels: FrozenMap[str, str] = Field(default_factory=dict)
    trial: JobBody
    params: FrozenMap[str, Any] = Field(default_factory=dict)
    search: Search
    metric: Metric | None = None
    trials: Positive | None = None
    parallel: Positive = 1
    max_failed: int | None = None
    prune: Any = None
    notify: tuple[Message, ...] = ()


class Sweep(SweepBody):
    """One object over many trials: listed, followed, stopped, resumed as one."""

    mlstead: Literal[1] = 1
    kind: Literal["sweep"] = "sweep"
    name: Name


class ServiceVersion(Model):
    """One model version behind a service."""

    model: str | Data
    runtime: str = ""


class Gate(Model):
    """A figure that must hold for a rollout to go on."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None


class Rollout(Model):
    """The shares of traffic a new version gets, in order."""

    steps: tuple[Positive, ...] = (100,)
    gate: Gate | None = None


class Replicas(Model):
    """How many processes serve."""

    min: Positive = 1
    max: Positive = 1


class ServiceBody(Model):
    """A model behind an address."""

    description: str = ""
    labels: FrozenMap[str, str] = Field(default_factory=dict)
    model: str | Data = ""
    versions: FrozenMap[str, ServiceVersion] = Field(default_factory=dict)
    runtime: str = ""
    code: Code | None = None
    python: Python | None = None
    params: FrozenMap[str, Any] = Field(default_factory=dict)
    port: int = 0
    replicas: Replicas = Replicas()
    traffic: FrozenMap[str, int] = Field(default_factory=dict)
    rollout: Rollout | None = None
    resources: Resources = Resources()
    env: FrozenMap[str, str] = Field(default_factory=dict)
    secrets: FrozenMap[str, str | SecretFile] = Field(default_factory=dict)
    notify: tuple[Message, ...] = ()
    native: FrozenMap[str, Any] = Field(default_factory=dict)


class Service(ServiceBody):
    """A named thing of a project that answers predictions until it is stopped."""

    mlstead: Literal[1] = 1
    kind: Literal["service"] = "service"
    name: Name


class When(Model):
    """A comparison that decides whether a step runs."""

    value: Any
    gt: float | None = None
    lt: float | None = None
    ge: float | None = None
    le: float | None = None
    eq: Any = None
    ne: Any = None
    in_: Annotated[tuple[Any, ...] | None, Field(alias="in")] = None


class StepRules(Model):
    """What a step has beside its work: order, fan-out, conditions, cache."""

    use: str = ""
    needs: tuple[str, ...] = ()
    foreach: str | tuple[Any, ...] | None = None
    max_parallel: Positive | None = None
    when: When | None = None
    run_if: Literal["success", "always", "failed"] = "success"
    cache: bool | CacheRule = False


class JobStep(StepRules, JobBody):
    """A job as a step."""

    kind: Literal["job"] = "job"


class SweepStep(StepRules, SweepBody):
    """A sweep as a step; its outputs are the best trial's."""

    kind: Literal["sweep"]


class ServiceStep(StepRules, ServiceBody):
    """A service as a step; succeeded means ready."""

    kind: Literal["service"]
    name: str = ""
    lifetime: Literal["pipeline", "keep"] = "pipeline"


Step = Annotated[JobStep | SweepStep | ServiceStep, Field(discriminator="kind")]


class Pipeline(Model):
    """Steps with an order between them."""

    mlstead: Literal[1] = 1
    kind: Literal["pipeline"] = "pipeline"
    name: Name
    description: str = ""
    labels: FrozenMap[str, str] = Field(default_factory=dict)
    params: FrozenMap[str, Any] = Field(default_factory=dict)
    defaults: FrozenMap[str, Any] = Field(default_factory=dict)
    steps: FrozenMap[str, Step]
    finally_: Annotated[FrozenMap[str, Step], Field(alias="finally", default_factory=dict)]
    fail_fast: bool = False
    notify: tuple[Message, ...] = ()


class Notebook(Model):
    """A notebook server with data mounted."""

    mlstead: Literal[1] = 1
    kind: Literal["notebook"] = "notebook"
    name: Name
    image: str = ""
    data: FrozenMap[str, Data] = Field(default_factory=dict)
    resources: Resources = Resources()
    idle: Seconds | None = None


Work = Job | Sweep | Pipeline | Service | Notebook
