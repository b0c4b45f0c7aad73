"""What must hold in a job beyond the types of its fields."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mlstead.spec.address import shown
from mlstead.spec.base import SIZE_PATTERN
from mlstead.spec.job import Data, Gpu, JobBody, Output, Python, Workers
from mlstead.spec.problems import Path, Problem

VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9._-]*")


def job_problems(job: JobBody) -> Iterator[Problem]:
    """Check one job, wherever it stands; expressions are checked elsewhere."""
    words = [job.command] if isinstance(job.command, str) else job.command
    if not words or not words[0].strip():
        yield Problem(("command",), "must not be empty")
    yield from collisions(job.params)
    for name, data in job.data.items():
        yield from (it.under(("data", name)) for it in data_problems(data))
    yield from python_problems(job.python)
    yield from _gpu_problems(job.resources.gpu)
    if job.workers is not None:
        yield from _worker_problems(job.workers, job.resources.gpu)
    for name in job.env.keys() & job.secrets.keys():
        yield Problem(("secrets", name), f"{name} stands in env too", at_key=True)
    yield from _output_problems(job.outputs)


def _output_problems(outputs: Mapping[str, Output]) -> Iterator[Problem]:
    """Find two outputs that would be versions of the same name."""
    seen: dict[tuple[str, str], str] = {}
    for slot, output in outputs.items():
        first = seen.setdefault((output.kind, output.name), slot)
        if output.name and first != slot:
            yield Problem(("outputs", slot, "name"), f"is the name of output {first}, too")


def collisions(names: Iterable[str], path: Path = ("params",)) -> Iterator[Problem]:
    """Find parameters that would be the same variable, MLSTEAD_PARAM_<NAME>."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.upper(), name)
        if first != name:
            message = f"{name} and {first} would both be MLSTEAD_PARAM_{name.upper()}"
            yield Problem((*path, name), message, at_key=True)


def data_problems(data: Data) -> Iterator[Problem]:
    """Check that an input comes from exactly one place, and that it is named in full."""
    given = [name for name in ("version", "step", "path", "url") if getattr(data, name)]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        yield Problem((), f"needs exactly one of version, step, path, url; found {found}")
    if data.version and "${{" not in data.version and not VERSION.fullmatch(data.version):
        hint = "write name@3, or name@production"
        if "://" in data.version:
            hint = "write {url: …, sha256: …} for an address"
        message = f"{shown(data.version)!r} does not say which version"
        yield Problem(("version",), message, hint)
    yield from _step_data_problems(data)
    yield from _url_problems(data)


def _step_data_problems(data: Data) -> Iterator[Problem]:
    if data.output and not data.step:
        yield Problem(("output",), "is only for data of a step")
    if data.step and not data.output:
        yield Problem(("output",), f"is required: which output of step {data.step}")
    if data.pick and not data.step:
        yield Problem(("pick",), "is only for data of a step")
    if data.pick and data.pick.step and data.pick.step != data.step:
        yield Problem(("pick", "step"), f"differs from step {data.step}")


def _url_problems(data: Data) -> Iterator[Problem]:
    if data.url and not re.match(r"https?://|\$\{\{", data.url):
        yield Problem(("url",), "must start with https:// or http://")
    if data.url and not data.sha256:
        yield Problem(("sha256",), "is required with url")
    if data.sha256 and not data.url:
        yield Problem(("sha256",), "is only for a url")
    if data.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}|.*\$\{\{.*", data.sha256):
        yield Problem(("sha256",), "must be 64 hexadecimal digits")


def python_problems(python: Python | None) -> Iterator[Problem]:
    """Check that the packages come from one file."""
    if python is not None and python.lock and python.requirements:
        yield Problem(("python", "requirements"), "stands beside lock; only one of them")


def _gpu_problems(gpu: int | Gpu) -> Iterator[Problem]:
    least = gpu.memory.removeprefix(">=").strip() if isinstance(gpu, Gpu) else ""
    if least and not re.fullmatch(SIZE_PATTERN, least):
        path = ("resources", "gpu", "memory")
        yield Problem(path, f"{least!r} is not a size", "write >=40Gi")


def _worker_problems(workers: Workers, gpu: int | Gpu) -> Iterator[Problem]:
    if workers.min is not None and workers.min > workers.count:
        message = f"is more than count, {workers.count}"
        yield Problem(("workers", "min"), message)
    if workers.processes == "gpu" and not gpu:
        hint = "add resources.gpu"
        yield Problem(("workers", "processes"), "one per GPU, but there is no GPU", hint)
