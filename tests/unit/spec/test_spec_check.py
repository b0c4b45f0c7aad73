"""What must hold beyond types; the golden mistakes hold the commonest."""

import pytest

from mlstead.errors import SpecError
from mlstead.spec.check import problems, verify
from mlstead.spec.load import parse
from mlstead.spec.work import Job, Metric, Search, Space, Sweep

JOB = "mlstead: 1\nkind: job\nname: j\n"
SWEEP = "mlstead: 1\nkind: sweep\nname: s\ntrial: {command: x, params: {lr: 0.1, n: 1, opt: a}}\n"
STEPS = "mlstead: 1\nkind: pipeline\nname: p\nparams: {n: 3}\nsteps:\n"


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text, origin="f")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command: ''", "command: must not be empty"),
        ("command: []", "command: must not be empty"),
        ("command: ['']", "command: must not be empty"),
        ("command: x\npython: {lock: a, requirements: b}", "python.requirements: stands beside"),
        ("command: x\nworkers: {count: 2, min: 3}", "workers.min: is more than count, 2"),
        ("command: x\nworkers: {processes: gpu}", "workers.processes: one per GPU, but there is"),
        ("command: x\nresources: {gpu: {memory: 40}}", "resources.gpu.memory: must be a text"),
        ("command: x\nresources: {gpu: {memory: big}}", "resources.gpu.memory: 'big' is not"),
        ("command: x\nenv: {A: b}\nsecrets: {A: c}", "secrets.A: A stands in env too"),
        ("command: x\nports: {web: 0}", "ports.web: must be at least 1"),
        ("command: x\ndata: {a: {path: x, output: y}}", "data.a.output: is only for data of a"),
        ("command: x\ndata: {a: {path: x, pick: {by: y}}}", "data.a.pick: is only for data of a"),
        ("command: x\ndata: {a: {url: 'https://x/y'}}", "data.a.sha256: is required with url"),
        ("command: x\ndata: {a: {path: x, sha256: y}}", "data.a.sha256: is only for a url"),
        ("command: x ${{ trial.number }}", "trial.number: is only known in the trial of a sweep"),
        ("command: x\nparams: {a: 1, b: '${{ params.a }}'}", "params cannot be made of params"),
        ("command: x\noutputs: {a: {kind: '${{ run.id }}'}}", "outputs.a.kind: must be one of"),
        ("command: x\nlabels: {a: '${{ run.id }}'}", "labels.a: an expression cannot stand here"),
    ],
)
def test_a_job_that_cannot_be_right_is_refused(text: str, message: str) -> None:
    assert message in refusal(JOB + text + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {method: grid, space: {lr: {float: [0, 1]}}}", "without step has no end"),
        ("search: {method: grid, space: {n: {int: [1, 9], log: true}}}", "space.n.log: a grid"),
        ("search: {method: grid, space: {n: {int: [1, 1000000]}}}", "a grid of 1,000,000 points"),
        ("search: {method: random, space: {n: {int: [1, 9]}}}", "trials: is required: random has"),
        ("search: {space: {n: {int: [1, 9]}}}\ntrials: 3", "metric: is required: tpe goes by it"),
        ("search: {points: [{n: 1}], space: {n: {int: [1, 9]}}}", "points: stands beside space"),
        ("search: {points: [{nn: 1}]}", "search.points[0].nn: nn is not a param of the trial"),
        (
            "search: {method: random, space: {n: {int: [1, 9]}}}\ntrials: 3\nprune: asha",
            "metric: is",
        ),
        ("search: {space: {n: {int: [1]}}}", "search.space.n.int: must be [lowest, highest]"),
        ("search: {space: {n: {int: [1, 2.5]}}}", "search.space.n.int[1]: must be a whole number"),
        ("search: {method: grid, space: {n: {int: [1, 9], step: 1.5}}}", "step: must be a whole"),
        ("search: {method: grid, space: {opt: {choice: [a], log: true}}}", "log: is only for"),
        (
            "search: {method: random, space: {lr: {float: [1, 2], log: true, step: 1}}}\ntrials: 1",
            "search.space.lr.step: cannot stand beside log",
        ),
        (
            "search: {method: cmaes, space: {opt: {choice: [a]}}}\n"
            "metric: {name: a, goal: max}\ntrials: 3",
            "search.space.opt.choice: cmaes searches numbers only",
        ),
        ("params: {LR: 1}\nsearch: {points: [{n: 1}]}", "params.LR: LR and lr would both be"),
    ],
)
def test_a_sweep_that_cannot_be_right_is_refused(text: str, message: str) -> None:
    assert message in refusal(SWEEP + text + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  a: {command: x, needs: [a]}", "steps.a: a cycle: a needs a"),
        ("  a: {command: x, params: {m: 1}, foreach: '${{ params.m }}'}", "there is no param m"),
        ("  a: {command: x, when: {value: '${{ item }}', eq: 1}, foreach: [1]}", "item: is only"),
        ("  a: {kind: service, model: m@1, cache: true}", "steps.a.cache: a service cannot be"),
        ("  a: {kind: service, model: m@1, name: Bad}", "steps.a.name: 'Bad' is not a name"),
        ("  a: {command: x}\nfinally:\n  a: {command: x}", "finally.a: a stands in steps too"),
        (
            "  a: {command: 'x ${{ steps.f.outputs.files }}'}\nfinally:\n  f: {command: x}",
            "steps.f.outputs.files: there is no step f",
        ),
        ("  a: {command: x}\nfinally:\n  f: {command: x, needs: [a]}", "finally.f.needs[0]: there"),
        (
            "  a: {kind: service, model: m@1}\n  b: {command: 'x ${{ steps.a.values.adress }}'}",
            "step a has no value adress; known: url, version",
        ),
        (
            "  a: {command: x, outputs: {m: {}}}\n"
            "  b: {command: x, data: {d: {step: a, output: m, pick: {step: c, by: v}}}}",
            "steps.b.data.d.pick.step: differs from step a",
        ),
        ("  a: {command: x, params: {b: '${{ params.c }}'}}", "there is no param c"),
    ],
)
def test_a_pipeline_that_cannot_be_right_is_refused(text: str, message: str) -> None:
    assert message in refusal(STEPS + text + "\n")


def test_a_step_sees_the_params_of_the_pipeline_and_its_own() -> None:
    step = "  a: {command: 'x ${{ params.n }} ${{ params.m }}', params: {m: '${{ params.n }}'}}\n"
    assert parse(STEPS + step).kind == "pipeline"


def test_the_values_of_a_foreach_step_are_named_all_together() -> None:
    text = "  a: {command: x, foreach: [1]}\n  b: {command: 'x ${{ steps.a.values.all }}'}\n"
    assert parse(STEPS + text).kind == "pipeline"


def test_finally_steps_may_read_the_outputs_of_steps() -> None:
    text = "  a: {command: x}\nfinally:\n  f: {command: 'x ${{ steps.a.outputs.files }}'}\n"
    assert parse(STEPS + text).kind == "pipeline"


def test_a_work_made_in_python_is_checked_by_verify() -> None:
    good = Job(name="j", command="run ${{ params.a }}", params={"a": 1})
    assert problems(good) == []
    verify(good)
    bad = Sweep(
        name="s",
        trial=good,
        search=Search(space={"b": Space(int_=(1, 2))}),
        metric=Metric(name="m", goal="max"),
    )
    with pytest.raises(SpecError) as caught:
        verify(bad)
    assert str(caught.value).split("\n") == [
        "s: search.space.b: b is not a param of the trial; known: a",
        "s: trials: is required: tpe has no end of its own",
    ]
