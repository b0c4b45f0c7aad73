"""What people get wrong, through the front door: one line with its place, a hint, an exit code."""

import os
import re
import stat
from pathlib import Path

import pytest
from tests.local.front_door import Door, Result, work

HEAD = "mlstead: 1\nkind: job\nname: job\n"
JOB = HEAD + "resources: {cpu: 1, memory: 256Mi}\n"
PIPELINE = "mlstead: 1\nkind: pipeline\nname: pipe\n"
SWEEP = (
    "mlstead: 1\nkind: sweep\nname: sweep\n"
    "trial: {command: 'true', params: {x: 0}}\nmetric: {name: loss, goal: min}\ntrials: 2\n"
)
SERVICE = "mlstead: 1\nkind: service\nname: calc\n"
STEP = "steps: {a: {kind: service, model: known@1, "
GRID = "search: {method: random, space: {x: {int: [0, 9]}}}\n"

WRONG_FILES = {
    "field": (JOB + "command: ls\nretrys: {max: 3}\n", "6:1", "unknown field", "retries"),
    "field-plural": (JOB + "command: ls\nlabel: {}\n", "6:1", "unknown field", "labels"),
    "field-inside": (HEAD + "command: ls\nresources: {gpus: 1}\n", "5:13", "unknown field", "gpu"),
    "type-number": (HEAD + "command: ls\nresources: {cpu: many}\n", "5:18", "a number", ""),
    "type-text": (HEAD + "command: 7\n", "4:10", "must be a text", ""),
    "type-env": (JOB + "command: ls\nenv: {A: 1}\n", "6:10", "must be a text", ""),
    "unit-missing": (JOB + "command: ls\ntimeout: 90\n", "6:10", "unit", "90s"),
    "unit-unknown": (HEAD + "command: ls\nresources: {memory: 4GB}\n", "5:21", "unit", "4Gi"),
    "key-twice": (JOB + "command: ls\nname: again\n", "6:1", "duplicate key name", ""),
    "key-twice-deep": (JOB + "command: ls\nparams: {a: 1, a: 2}\n", "6:16", "duplicate key a", ""),
    "required": (JOB, "1:1", "command: is required", ""),
    "in-quotes": (JOB + 'command: echo "${{ params.a }}"\nparams: {a: 1}\n', "5:16", "quotes", ""),
    "in-backquotes": (
        JOB + "command: echo `echo ${{ params.a }}`\nparams: {a: 1}\n", "5:21", "backquotes", "",
    ),
    "unknown-param": (
        JOB + "command: echo ${{ params.b }}\nparams: {bb: 1}\n", "5:15", "no param b", "bb",
    ),
    "unquoted": (
        JOB + "command: [echo, ${{ params.a }}]\nparams: {a: 1}\n", "5:17", "must be quoted", "",
    ),
    "data-twice": (
        JOB + "command: ls\ndata: {x: {path: a, version: b@1}}\n", "6:11", "exactly one of", "",
    ),
    "climbing-input": (JOB + "command: ls\ndata: {../x: a@1}\n", "6:8", "", "letters"),
    "absolute-output": (JOB + "command: ls\noutputs: {/etc/x: {}}\n", "6:11", "", "letters"),
    "same-name": (
        JOB + "command: ls\noutputs: {a: {kind: data, name: n}, b: {kind: data, name: n}}\n",
        "6:59", "the name of output a", "",
    ),
    "same-variable": (
        JOB + "command: ls\nparams: {lr: 1, LR: 2}\n", "6:17", "MLSTEAD_PARAM_LR", "",
    ),
    "tag": (JOB + "command: !!python/object/apply:os.system [ls]\n", "5:10", "tag", ""),
    "merge-key": (JOB + "command: ls\n<<: {name: x}\n", "6:1", "merge keys", ""),
    "tab": (JOB + "command: ls\n\tname: x\n", "6:1", "not YAML", "spaces"),
    "two-documents": (JOB + "command: ls\n---\nmlstead: 1\n", "6:1", "second document", ""),
    "deep": (JOB + "command: ls\nparams: " + "[" * 60 + "]" * 60 + "\n", "6:", "50", ""),
    "control-character": (JOB + "command: ls\nname2: \x01\n", "6:8", "", ""),
    "kind": (HEAD.replace("job\n", "jab\n", 1) + "command: ls\n", "2:7", "must be one of", "job"),
    "version": (HEAD.replace("1", "2", 1) + "command: ls\n", "1:10", "version 2", ""),
    "version-text": (
        HEAD.replace("1", "'1'", 1) + "command: ls\n", "1:10", "a whole number", "mlstead: 1",
    ),
    "method-bayes": (
        SWEEP + "search: {method: bayes, space: {x: {choice: [1]}}}\n", "7:18", "one of", "tpe?",
    ),
    "method-hyperband": (
        SWEEP + "search: {method: hyperband, space: {x: {choice: [1]}}}\n",
        "7:18", "one of", "prune: hyperband",
    ),
    "name": (HEAD.replace("name: job", "name: Job!") + "command: ls\n", "3:7", "", "a-z"),
    "cycle": (
        PIPELINE + "steps:\n  a: {command: ls, needs: [b]}\n  b: {command: ls, needs: [a]}\n",
        "5:", "cycle", "",
    ),
    "unknown-need": (
        PIPELINE + "steps:\n  a: {command: ls, needs: [bb]}\n", "5:28", "no step bb", "",
    ),
    "unknown-step": (
        PIPELINE + "steps:\n  make: {command: ls}\n"
        "  use: {command: ls, data: {x: {step: mak, output: o}}}\n",
        "6:", "mak", "make",
    ),
    "empty-space": (
        SWEEP + "search: {method: random, space: {}}\n", "7:33", "nothing to search", "",
    ),
    "empty-choice": (
        SWEEP + "search: {space: {x: {choice: []}}}\n", "7:", "nothing to choose", "",
    ),
    "space-of-nothing": (
        SWEEP + "search: {space: {y: {int: [0, 1]}}}\n", "7:18", "y is not a param", "x",
    ),
    "traffic": (
        SERVICE + "versions: {a: {model: m@1}}\ntraffic: {a: 50}\n", "5:10", "sums to 50", "",
    ),
    "model": (SERVICE + "model: m\n", "4:8", "which version", "m"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_tracking(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare these tests the copy to MLflow, which is not what they are about."""
    monkeypatch.setenv("MLSTEAD_TRACKING", "off")


def told(result: Result, code: int = 2) -> str:
    """Hold what every error of a person promises: one line, at most a hint; give the line."""
    assert result.code == code, f"{result.code}\n{result.out}\n{result.err}"
    assert "Traceback" not in result.err
    lines = result.err.splitlines()
    assert lines[0].startswith("error: "), result.err
    assert all(line.startswith("hint: ") for line in lines[1:]), result.err
    assert len(lines) <= 2, result.err
    assert lines[0].isprintable(), repr(lines[0])
    return lines[0]


def refused(door: Door, file: Path, *args: object) -> str:
    """Hold that ``run`` and ``plan`` refuse a file in the same words and record nothing."""
    planned, ran = door("plan", file, *args), door("run", file, *args)
    told(planned)
    told(ran)
    assert ran.err == planned.err
    assert door.good("ps", "-a", "--json").json == []
    return ran.err


@pytest.mark.parametrize(
    ("text", "place", "words", "hint"), WRONG_FILES.values(), ids=WRONG_FILES.keys()
)
def test_a_wrong_file_is_told_with_its_place(
    door: Door, tmp_path: Path, text: str, place: str, words: str, hint: str
) -> None:
    file = work(tmp_path, text)
    said = refused(door, file)
    assert said.startswith(f"error: {file}:{place}"), said
    assert words in said
    assert hint in said


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("resources: {cpu: 1, memory: 9000Gi}", "6:29"),
        ("python: {lock: nothing.txt}", "6:9"),
        ("secrets: {A: nothing}", "6:14"),
        ("image: debian", "6:8"),
        ("code: nowhere", "6:7"),
        ("data: {x: nothing@1}", "6:11"),
        ("priority: soon", "6:11"),
    ],
)
def test_what_is_refused_at_submission_has_its_place_too(
    door: Door, tmp_path: Path, field: str, place: str
) -> None:
    head = JOB if not field.startswith("resources") else HEAD + "code: null\n"
    file = work(tmp_path, head + f"command: ls\n{field}\n")
    said = refused(door, file)
    assert said.startswith(f"error: {file}:{place}: {field.partition(':')[0]}"), said


def test_every_mistake_is_listed_at_once_in_the_order_of_the_file(
    door: Door, tmp_path: Path
) -> None:
    file = work(tmp_path, JOB + "comand: ls\ntimeout: 5\ncommand: ls\nseed: -1\n")
    result = door("run", file)
    assert result.code == 2
    places = [line.removeprefix("error: ").split(": ")[0] for line in result.err.splitlines()]
    assert places == [f"{file}:5:1", f"{file}:6:10", f"{file}:8:7"]


def test_a_bomb_of_aliases_ends_at_once(door: Door, tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    file = work(tmp_path, JOB + "command: ls\nparams:\n" + "".join(f"  {row}\n" for row in rows))
    assert refused(door, file).startswith(f"error: {file}:")


def test_a_file_of_10_mb_is_refused(door: Door, tmp_path: Path) -> None:
    file = work(tmp_path, JOB + "command: ls\ndescription: " + "x" * (10 << 20) + "\n")
    assert refused(door, file).startswith(f"error: {file}: larger than 1 MiB")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (JOB.encode() + b"command: caf\xe9\n", ":5:13: not UTF-8"),
        (b"\xff\xfe" + JOB.encode("utf-16-le"), ":1:1: not UTF-8"),
        (b"", ": empty"),
        (b"# only a comment\n", ": empty"),
        (b"- a\n- b\n", ":1:1: a work file is a map"),
        (b"\x00" * 64, ":1:1"),
        (bytes(range(256)), ":"),
    ],
    ids=["latin-1", "utf-16", "empty", "comment", "list", "zeros", "binary"],
)
def test_what_is_no_text_or_no_work_file_is_told(
    door: Door, tmp_path: Path, content: bytes, words: str
) -> None:
    file = work(tmp_path, "")
    file.write_bytes(content)
    assert refused(door, file).startswith(f"error: {file}{words}")


def test_a_file_that_is_not_there_or_is_a_folder_is_told(door: Door, tmp_path: Path) -> None:
    assert "no such file" in refused(door, tmp_path / "nothing.yaml")
    assert str(tmp_path) in refused(door, tmp_path)


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("lr=0.2", "no param lr"),
        ("rates=0.2", "did you mean rate"),
        ("rate", "name=value"),
        ("=1", "name=value"),
        ("rate=fast", "a number"),
        ("flag=maybe", "true or false"),
        ("items={", "not YAML"),
        ("word=a\0b", "NUL"),
    ],
)
def test_a_parameter_that_does_not_fit_is_told(
    door: Door, tmp_path: Path, param: str, words: str
) -> None:
    file = work(
        tmp_path, JOB + "command: ls\nparams: {rate: 0.1, flag: true, items: [1], word: a}\n"
    )
    assert words in refused(door, file, "-p", param)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("data: {x: nothing@1}", "data.x: no data or model nothing@1"),
        ("data: {x: known@7}", "known"),
        ("data: {x: known@best}", "known"),
        ("data: {x: {path: ./nothing}}", "data.x: no file or folder"),
        ("secrets: {TOKEN: not-there}", "secrets: no secret 'not-there'"),
        ("secrets: {TOKEN: {name: not-there, file: t}}", "secrets: no secret 'not-there'"),
        ("notify: [{to: not-there}]", "notify: no secret 'not-there'"),
        ("code: ./nothing", "code: no folder"),
        ("code: work.yaml", "code: no folder"),
        ("python: {lock: nothing.txt}", "nothing.txt"),
        ("python: {lock: uv.lock}", "uv.lock"),
        ("python: {requirements: nothing.txt}", "nothing.txt"),
        ("working_dir: ../outside", "working_dir"),
        ("working_dir: /etc", "working_dir"),
        ("setup: make", "setup"),
        ("outputs: {m: {kind: model, name: ../evil}}", "../evil"),
        ("outputs: {m: {kind: model, name: net, alias: ['1']}}", "'1'"),
    ],
)
def test_what_a_job_names_and_is_not_there_or_not_legal_is_told_at_submit(
    door: Door, tmp_path: Path, field: str, words: str
) -> None:
    (tmp_path / "known").write_text("x")
    door.good("data", "add", "known", tmp_path / "known")
    assert words in refused(door, work(tmp_path / "code", JOB + f"command: ls\n{field}\n"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("steps: {a: {command: ls}, b: {command: ls, data: {x: none@1}}}", "none@1"),
        ("steps: {a: {command: ls}, b: {command: ls, secrets: {X: none}}}", "none"),
        ("steps: {a: {command: ls}, b: {command: ls, code: none}}", "none"),
        ("steps: {a: {command: ls}}\nfinally: {b: {command: ls, data: {x: none@1}}}", "none@1"),
        ("steps: {b: {kind: service, model: none@1}}", "none"),
        (
            "steps: {b: {kind: sweep, trial: {command: ls, params: {n: 0}, data: {x: none@1}}, "
            "search: {points: [{n: 1}]}}}",
            "none@1",
        ),
    ],
    ids=["data", "secret", "code", "finally", "service", "sweep"],
)
def test_what_a_later_step_lacks_is_told_before_the_first_one_starts(
    door: Door, tmp_path: Path, body: str, words: str
) -> None:
    file = work(tmp_path, PIPELINE + body + "\n")
    said = refused(door, file)
    assert said.startswith(f"error: {file}:"), said
    assert re.search(r" steps\.b(: |\.[a-z.]+: )", said), said
    assert words in said


@pytest.mark.parametrize("text", [PIPELINE + "steps: {a: {command: ls}}\n", SWEEP + GRID])
def test_a_message_to_nobody_is_told_of_every_kind(door: Door, tmp_path: Path, text: str) -> None:
    said = refused(door, work(tmp_path, text + "notify: [{to: not-there}]\n"))
    assert "notify: no secret 'not-there'" in said


@pytest.mark.parametrize("model", ["nothing@1", "net@9", "net@production"])
def test_a_service_of_a_model_that_is_not_there_is_told_at_submit(
    door: Door, tmp_path: Path, model: str
) -> None:
    (tmp_path / "net").write_text("weights")
    door.good("model", "add", "net", tmp_path / "net")
    said = refused(door, work(tmp_path / "s", SERVICE + f"model: {model}\n"))
    assert model.partition("@")[0] in said


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("mlstead: 1\nkind: notebook\nname: note\n", "notebook"),
        (SWEEP + GRID + "prune: median\n", "prune"),
        (SERVICE + "model: known@1\nreplicas: {max: 2}\n", "replicas"),
        (SERVICE + "model: known@1\nrollout: {steps: [50, 100]}\n", "rollout"),
        (SERVICE + "model: {path: ./known}\n", "model: path"),
        (SERVICE + "model: known@1\nnative: {kubernetes: {}}\n", "native"),
        (JOB + "command: ls\nnative: {kubernetes: {}}\n", "native"),
        (JOB + "command: ls\nqueue: team-a\n", "queue"),
        (JOB + "command: ls\nmounts: {volume: /data}\n", "mounts"),
        (JOB + "command: ls\nworkers: {count: 2, framework: ray}\n", "workers.framework ray"),
        (JOB + "command: ls\nworkers: {count: 2, min: 1}\n", "workers.min"),
        (JOB + "command: ls\nworkers: {count: 2, via: trainer}\n", "workers.via"),
        (HEAD + "command: ls\nresources: {gpu: {memory: '>=8Gi'}}\n", "resources.gpu.memory"),
        (HEAD + "command: ls\nresources: {gpu: {slice: 1g.10gb}}\n", "resources.gpu.slice"),
        (JOB + "command: ls\ndata: {x: {version: known@1, mode: mount}}\n", "data mode mount"),
        (PIPELINE + "steps: {a: {command: ls, queue: team-a}}\n", "steps.a.queue"),
        (PIPELINE + STEP + "replicas: {max: 2}}}\n", "steps.a.replicas"),
        (PIPELINE + STEP + "rollout: {steps: [100]}}}\n", "steps.a.rollout"),
    ],
    ids=[
        "notebook", "prune", "replicas", "rollout", "model-path", "service-native", "native",
        "queue", "mounts",
        "ray", "min", "via", "gpu-memory", "gpu-slice", "mount", "step-queue", "step-replicas",
        "step-rollout",
    ],
)  # fmt: skip
def test_fields_that_this_engine_cannot_do_yet_are_refused_by_name(
    door: Door, tmp_path: Path, text: str, field: str
) -> None:
    if "known@1" in text:
        (tmp_path / "known").write_text("x")
        door.good("data" if "mode: mount" in text else "model", "add", "known", tmp_path / "known")
    said = refused(door, work(tmp_path / "code", text))
    assert "not supported by engine local yet" in said
    assert field in said


def test_an_image_alone_is_refused_with_what_to_do(door: Door, tmp_path: Path) -> None:
    file = work(tmp_path, JOB + "command: ls\nimage: registry/name:1\n")
    said = refused(door, file)
    assert said.startswith(f"error: {file}:6:8: image: not supported by engine local")
    assert "python:" in said
    assert "--on" in said


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("{cpu: 4000}", "cpu 4000"),
        ("{memory: 900Ti}", "memory"),
        ("{gpu: 64}", "gpu 64"),
        ("{gpu: {kind: [no-such-card]}}", "no-such-card"),
    ],
)
def test_more_than_the_machine_has_is_refused_at_submit(
    door: Door, tmp_path: Path, resources: str, words: str
) -> None:
    said = refused(door, work(tmp_path, HEAD + f"command: ls\nresources: {resources}\n"))
    assert words in said
    assert "this machine has" in said
    assert "--on" in said


def test_with_wait_it_waits_until_the_machine_is_large_enough(door: Door, tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    asked = f"resources: {{cpu: {len(cores)}}}\n"
    large = work(tmp_path, HEAD + "command: echo ran\n" + asked, "large.yaml")
    small = work(tmp_path, HEAD + "command: echo ran\n", "small.yaml")
    try:
        os.sched_setaffinity(0, {min(cores)})
        door.good("run", small)  # its keeper may use one core
    finally:
        os.sched_setaffinity(0, cores)
    assert "this machine has 1" in door("run", large).err
    waits = door.good("run", "-d", "--wait", large).out.strip()
    door.good("run", small)  # is not held up
    assert door.state(waits) == "queued"
    assert door.show(waits)["run"]["detail"].startswith("waits for a larger machine: cpu")
    keeper = int((door.home / "local" / "keeper.lock").read_text())
    os.sched_setaffinity(keeper, cores)
    assert door.until(waits, "succeeded")
    assert door.show(waits)["run"]["detail"] == ""


def test_more_than_the_machine_has_is_refused_for_workers_steps_and_trials(
    door: Door, tmp_path: Path
) -> None:
    many = HEAD + "command: ls\nresources: {cpu: 1}\nworkers: {count: 4000}\n"
    assert "4000 workers" in refused(door, work(tmp_path, many))
    step = PIPELINE + "steps: {a: {command: ls}, b: {command: ls, resources: {cpu: 4000}}}\n"
    assert "steps.b.resources" in refused(door, work(tmp_path, step))
    sweep = SWEEP.replace("command: 'true'", "command: 'true', resources: {gpu: 64}")
    assert "gpu 64" in refused(door, work(tmp_path, sweep + GRID))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("show nobody", "nobody"),
        ("logs nobody", "nobody"),
        ("stop nobody", "nobody"),
        ("get nobody", "nobody"),
        ("run --resume nobody", "nobody"),
        ("run", "which work file"),
        ("show service/nobody", "nobody"),
        ("stop service/nobody", "nobody"),
        ("ps --on nowhere", "nowhere"),
        ("context use nowhere", "nowhere"),
        ("context remove nowhere", "nowhere"),
        ("context remove local", "local"),
        ("context add x --engine nosuch", "nosuch"),
        ("context add ../x", "../x"),
        ("context add x --project ../x", "../x"),
        ("context add x --artifacts ftp://b/x", "ftp://b/x"),
        ("context add x --artifacts folder/store", "folder/store"),
        ("secret remove nothing", "nothing"),
        ("ps --project ../x", "../x"),
        ("data list --project ../x", "../x"),
        ("data show nothing", "nothing"),
        ("data get nothing@1 to", "nothing"),
        ("data remove nothing", "which version"),
        ("data remove nothing@", "which version"),
        ("data remove nothing@1", "nothing"),
        ("model alias nothing@1 production", "nothing"),
        ("schema jobb", "jobb"),
    ],
)
def test_what_is_not_there_or_not_legal_is_one_line(door: Door, args: str, words: str) -> None:
    assert words in told(door(*args.split()))


def test_a_password_in_a_context_is_refused_and_not_repeated(door: Door) -> None:
    for url in ("postgresql://me:hunter22@127.0.0.1:9/db", "postgresql:///db?password=hunter22"):
        result = door("context", "add", "pg", "--records", url)
        assert "password" in told(result)
        assert "hunter22" not in result.err + result.out
    kept = [path.read_text() for path in door.home.rglob("*.json") if path.is_file()]
    assert "hunter22" not in "".join(kept)


def test_a_project_that_climbs_is_refused_before_anything_is_written(
    door: Door, tmp_path: Path
) -> None:
    file = work(tmp_path, JOB + "command: ls\n")
    assert "../x" in told(door("run", file, "--project", "../x"))
    assert "../x" in told(door("plan", file, "--project", "../x"))
    assert list(door.home.rglob("*")) == []
    assert list(tmp_path.iterdir()) == [file]


# ---- the program's own failures: exit code 1


def without_x(folder: Path) -> None:
    program = folder / "tool.sh"
    program.write_text("#!/bin/sh\necho never\n")
    program.chmod(stat.S_IRUSR | stat.S_IWUSR)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "KILL"),
        ("kill -s SEGV $$", "SEGV"),
        ('["no-such-program", "a"]', "no-such-program"),
        ("no-such-program a", "127"),
        ('["./tool.sh"]', "./tool.sh"),
        ('["./"]', "./"),
    ],
    ids=["exit", "killed", "crash", "not-found", "not-found-sh", "no-permission", "folder"],
)
def test_a_program_that_fails_gives_exit_code_1_and_the_reason(
    door: Door, tmp_path: Path, command: str, words: str
) -> None:
    file = work(tmp_path, JOB + f"command: {command}\n")
    without_x(tmp_path)
    assert words in told(door("run", file), code=1)
    run = door.show("job")["run"]
    assert (run["state"], run["reason"]) == ("failed", "error")


def test_a_file_without_the_right_to_run_is_told_from_one_that_is_not_there(
    door: Door, tmp_path: Path
) -> None:
    file = work(tmp_path, JOB + 'command: ["./tool.sh"]\n')
    without_x(tmp_path)
    assert "permission" in told(door("run", file), code=1).lower()
    (tmp_path / "tool.sh").unlink()
    line = told(door("run", file), code=1).lower()
    assert "not found" in line or "no such file" in line


# ---- something outside does not answer: exit code 3


@pytest.mark.parametrize("verb", ["run", "plan", "ps", "data"])
def test_records_that_do_not_answer_are_exit_code_3(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("MLSTEAD_RECORDS", "postgresql://me:hunter22@127.0.0.1:9/db")
    file = work(tmp_path, JOB + "command: ls\n")
    args = {"ps": ["ps"], "data": ["data", "list"]}.get(verb, [verb, file])
    result = door(*args)
    assert "127.0.0.1" in told(result, code=3)
    assert "hunter22" not in result.err


def test_records_of_an_unknown_kind_are_refused(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("mysql://localhost/x", "nonsense", "postgresql://[::bad/db"):
        monkeypatch.setenv("MLSTEAD_RECORDS", url)
        told(door("ps"))


# ---- what users wrote cannot act on who reads it


NASTY = "<script>alert(1)</script>[bold red]\x1b[31m\x1b]0;title\x07\r\x7f\u202e"


def inert(text: str) -> None:
    """Hold that no character of a text moves the cursor, colours, or hides what stands there."""
    assert all(char.isprintable() or char == "\n" for char in text), repr(text)


def test_what_programs_and_people_wrote_is_inert_in_text_output(door: Door, tmp_path: Path) -> None:
    program = (
        "import json, os, mlstead\n"
        f"nasty = {NASTY!r}\n"
        "mlstead.log(**{'m' + nasty: 1.0})\n"
        "folder = os.environ['MLSTEAD_OUTPUTS']\n"
        "json.dump({'v' + nasty: nasty}, open(folder + '/values.json', 'w'))\n"
    )
    text = JOB + "command: python nasty.py\nparams: {p: plain}\n"
    door.good("run", work(tmp_path, text, nasty_py=program), "-p", f"p={NASTY}")
    shown = door.good("show", "job").out
    inert(shown)
    inert(door.good("ps").out)
    inert(door.good("plan", tmp_path / "work.yaml", "-p", f"p={NASTY}").out)
    assert "<script>alert(1)</script>[bold red]" in shown  # told as it is, not taken as markup
    values = door.show("job")["run"]["values"]
    assert values == {f"v{NASTY}": NASTY}  # kept as it was written; only its display is tamed


def test_the_reason_of_a_failure_is_inert_where_it_is_told(door: Door, tmp_path: Path) -> None:
    text = HEAD.replace("name: job", "name: bad") + (
        'resources: {cpu: 1, memory: 256Mi}\ncommand: ["no\\e[31msuch\\r<b>[bold]program"]\n'
    )
    result = door("run", work(tmp_path, text))
    inert(told(result, code=1))
    inert(door.good("ps").out)
    inert(door.good("show", "bad").out)
    assert "<b>[bold]program" in door.good("show", "bad").out


@pytest.mark.parametrize("verb", ["plan", "apply", "status"])
def test_without_a_site_file_the_way_to_one_is_told(door: Door, tmp_path: Path, verb: str) -> None:
    done = door("site", verb, "-f", tmp_path / "site.yaml")
    assert done.code == 2
    assert f"error: {tmp_path / 'site.yaml'}: no such file" in done.err
    assert "mlstead site init" in done.err
