"""The pipeline: steps, and the order and conditions between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from mlstead.spec.base import (
    FrozenDict,
    FrozenMap,
    List,
    Model,
    Name,
    Positive,
    Value,
    by_shape,
)
from mlstead.spec.job import CacheRule, JobBody, Labelled
from mlstead.spec.service import ServiceBody
from mlstead.spec.sweep import SweepBody


class When(Model):
    """A comparison that decides whether a step runs; exactly one, and null is not given."""

    value: Value = Field(description="What is compared, mostly an expression.")
    gt: float | None = Field(default=None, description="More than.")
    lt: float | None = Field(default=None, description="Less than.")
    ge: float | None = Field(default=None, description="At least.")
    le: float | None = Field(default=None, description="At most.")
    eq: Value = Field(default=None, description="Equal to.")
    ne: Value = Field(default=None, description="Other than.")
    in_: List[Value] | None = Field(
        default=None, validation_alias="in", serialization_alias="in", description="One of."
    )


class StepRules(Model):
    """What a step has beside its work: order, fan-out, conditions, cache."""

    use: str = Field(
        default="", description="A work file that this step runs; fields here go over it."
    )
    needs: List[str] = Field(default=(), description="Steps that come first.")
    foreach: (
        Annotated[
            Annotated[str, Tag("<text>")] | Annotated[List[Value], Tag("<list>")],
            by_shape("a list, or one expression"),
        ]
        | None
    ) = Field(default=None, description="Run once for each item.")
    max_parallel: Positive | None = Field(default=None, description="Items at once.")
    when: When | None = Field(default=None, description="Run only if this holds.")
    run_if: Literal["success", "always", "failed"] = Field(
        default="success", description="After which ends of its needs it runs."
    )
    cache: Annotated[
        Annotated[bool, Tag("<flag>")] | Annotated[CacheRule, Tag("<map>")],
        by_shape("true, false, or a map with key_extra and ttl"),
    ] = Field(default=False, description="Whether outputs of an equal earlier step will do.")


class JobStep(StepRules, JobBody):
    """A job as a step."""

    kind: Literal["job"] = Field(default="job", description="job: one command.")


class SweepStep(StepRules, SweepBody):
    """A sweep as a step; its outputs are the best trial's."""

    kind: Literal["sweep"] = Field(default="sweep", description="sweep: many trials of one job.")


class ServiceStep(StepRules, ServiceBody):
    """A service as a step; succeeded means ready."""

    kind: Literal["service"] = Field(
        default="service", description="service: a model behind an address."
    )
    name: str = Field(default="", description="What it is called in its project.")
    lifetime: Literal["pipeline", "keep"] = Field(
        default="pipeline", description="keep: it stays when the pipeline ends."
    )


def _kind(value: object) -> str | None:
    written = value.get("kind", "job") if isinstance(value, Mapping) else None
    kind = written or getattr(value, "kind", None)
    return f"<{kind}>" if kind in ("job", "sweep", "service") else None


Step = Annotated[
    Annotated[JobStep, Tag("<job>")]
    | Annotated[SweepStep, Tag("<sweep>")]
    | Annotated[ServiceStep, Tag("<service>")],
    Discriminator(
        _kind,
        custom_error_type="shape",
        custom_error_message="must be a map whose kind is job, sweep or service",
    ),
]


class Pipeline(Labelled):
    """Steps with an order between them."""

    mlstead: Literal[1] = Field(default=1, description="The version of this format.")
    kind: Literal["pipeline"] = Field(
        default="pipeline", description="pipeline: steps with an order."
    )
    name: Name = Field(description="What runs of it are called.")
    defaults: FrozenMap[str, Value] = Field(
        default_factory=FrozenDict,
        description="Fields every step inherits: maps merge by key, lists replace.",
    )
    steps: FrozenMap[Name, Step] = Field(min_length=1, description="The steps, by name.")
    finally_: FrozenMap[Name, Step] = Field(
        default_factory=FrozenDict,
        validation_alias="finally",
        serialization_alias="finally",
        description="Steps that run once at the end: after success, failure and stop.",
    )
    fail_fast: bool = Field(default=False, description="Stop everything when one step fails.")
