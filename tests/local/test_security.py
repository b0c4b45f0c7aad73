"""What programs leave stays in its folder, secrets stay secret, data is never run as code."""

import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from tests.local.front_door import Door, wait, work

from mlstead.engines.local.attempt import Progress
from mlstead.engines.local.disk import Home

JOB = "mlstead: 1\nkind: job\nname: job\nresources: {cpu: 1, memory: 256Mi}\n"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Give a folder that belongs to somebody else: it must be as it was afterwards."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "theirs").write_text("not yours\n")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "rmdir $MLSTEAD_OUTPUTS; ln -s {foreign} $MLSTEAD_OUTPUTS",
        "ln -s {foreign} $MLSTEAD_OUTPUTS/model",
        "ln -s {foreign}/theirs $MLSTEAD_OUTPUTS/model",
        "mkdir $MLSTEAD_OUTPUTS/model; ln -s {foreign}/theirs $MLSTEAD_OUTPUTS/model/x",
        "ln -s {foreign} $MLSTEAD_OUTPUTS/undeclared",
        "mkfifo $MLSTEAD_OUTPUTS/pipe",
    ],
    ids=["whole-folder", "to-folder", "to-file", "inside", "undeclared", "pipe"],
)
def test_an_output_that_leads_outside_fails_its_run_and_touches_nothing(
    door: Door, tmp_path: Path, foreign: Path, command: str
) -> None:
    text = JOB + (
        f"command: {command.format(foreign=foreign)}\n"
        "outputs: {model: {kind: model, name: net}}\n"
    )
    result = door("run", work(tmp_path / "code", text))
    assert result.code == 1, result.err
    assert "Traceback" not in result.err
    assert door.state("job") == "failed"
    assert door.show("job")["links"] == []
    assert door.good("model", "list", "--json").json == []
    assert [path.name for path in foreign.iterdir()] == ["theirs"]
    assert (foreign / "theirs").read_text() == "not yours\n"


def test_what_one_run_left_that_cannot_be_kept_does_not_hold_up_the_next(
    door: Door, tmp_path: Path, foreign: Path
) -> None:
    bad = JOB + f"command: ln -s {foreign} $MLSTEAD_OUTPUTS/o\n"
    first = door.good("run", "-d", work(tmp_path / "a", bad)).out.strip()
    door.until(first, "failed", seconds=120)
    good = JOB.replace("name: job", "name: next") + "command: echo 1 > $MLSTEAD_OUTPUTS/o\n"
    second = door.good("run", "-d", work(tmp_path / "b", good)).out.strip()
    door.until(second, "succeeded", seconds=120)


# ---- secrets

CANARY = "canary-7f3e9d51c2a84b60"
SECRET = (
    "secrets: {TOKEN: k, FROM_FILE: {name: k, file: token}}\nresources: {cpu: 0.5, memory: 128Mi}\n"
)


def keep_secret(door: Door, name: str, value: str) -> None:
    assert door.process("secret", "set", name, stdin=value).code == 0


def told_anywhere(door: Door, *, but: tuple[str, ...]) -> list[str]:
    """Name the files of the home that hold the canary, apart from those that may."""
    found = []
    for path in door.home.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in but:
            with contextlib.suppress(FileNotFoundError):
                if CANARY.encode() in path.read_bytes():
                    found.append(str(path.relative_to(door.home)))
    return found


def command_lines() -> bytes:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    return b"\0".join(lines)


def said(door: Door, run: str) -> str:
    """Give all that the reading verbs say of a run, to programs and to people."""
    verbs: list[tuple[str, ...]] = [("show", run), ("show", run, "--json")]
    verbs += [("ps", "-a"), ("ps", "-a", "--json"), ("secret", "list", "--json")]
    results = [door.good(*verb) for verb in verbs]
    return "".join(result.out + result.err for result in results)


def test_a_secret_reaches_its_program_and_stands_nowhere_else(door: Door, tmp_path: Path) -> None:
    keep_secret(door, "k", CANARY)
    gate, ready = tmp_path / "gate", tmp_path / "ready"
    text = (
        "mlstead: 1\nkind: job\nname: quiet\n"
        + SECRET
        + (
            "command: |\n"
            f'  test "$TOKEN" = "$(cat $FROM_FILE)"; test ${{#TOKEN}} = {len(CANARY)}\n'
            "  test $(stat -c %a $FROM_FILE) = 600\n"
            f"  touch {ready}; until test -e {gate}; do sleep 0.05; done\n"
        )
    )
    file = work(tmp_path / "code", text)
    assert CANARY not in door.good("plan", file, "--json").out
    run = door.good("run", "-d", file).out.strip()
    wait(ready.exists, 60, lambda: str(door.show(run)["run"]))
    assert CANARY.encode() not in command_lines()
    assert CANARY not in said(door, run)
    held = [door.home / name for name in told_anywhere(door, but=())]
    assert {path.name for path in held} == {"secrets.json", "private.json", "token"}
    assert {path.stat().st_mode & 0o777 for path in held} == {0o600}
    gate.touch()
    door.until(run, "succeeded")
    assert CANARY not in said(door, run)
    wait(lambda: told_anywhere(door, but=("secrets.json",)) == [], 30, lambda: _told(door))


def _told(door: Door) -> str:
    return f"the secret stands in {told_anywhere(door, but=('secrets.json',))}"


def test_a_secret_of_a_run_whose_supervisors_were_killed_is_removed(
    door: Door, tmp_path: Path
) -> None:
    keep_secret(door, "k", CANARY)
    ready = tmp_path / "ready"
    text = "mlstead: 1\nkind: job\nname: cut\n" + SECRET + f"command: touch {ready}; sleep 1000\n"
    run = door.good("run", "-d", work(tmp_path / "code", text)).out.strip()
    wait(ready.exists, 60, lambda: str(door.show(run)["run"]))
    started = Progress(Home(door.home).task(run) / "1").started
    assert started is not None
    os.kill(int((door.home / "local" / "keeper.lock").read_text()), signal.SIGKILL)
    os.kill(started["pid"], signal.SIGKILL)
    door.until(run, "lost")
    wait(lambda: told_anywhere(door, but=("secrets.json",)) == [], 30, lambda: _told(door))


def test_a_secret_that_a_program_prints_is_hidden_in_what_is_shown(
    door: Door, tmp_path: Path
) -> None:
    keep_secret(door, "k", CANARY)
    half = len(CANARY) // 2
    program = (
        "import os, sys, time\n"
        "token = os.environ['TOKEN']\n"
        "print('all at once', token, 'after', flush=True)\n"
        f"sys.stdout.write('in parts ' + token[:{half}]); sys.stdout.flush(); time.sleep(0.3)\n"
        f"print(token[{half}:] + '.', flush=True)\n"
        "sys.exit('it failed with ' + open(os.environ['FROM_FILE']).read())\n"
    )
    text = "mlstead: 1\nkind: job\nname: loud\ncommand: [python, loud.py]\n" + SECRET
    result = door("run", work(tmp_path, text, loud_py=program))
    shown = "all at once *** after\nin parts ***.\nit failed with ***\n"
    assert result.out == shown
    assert door.good("logs", "loud").out == shown
    assert door.good("logs", "-f", "loud").out == shown
    assert CANARY not in result.err + said(door, "loud")


def test_a_secret_of_a_step_and_of_a_trial_is_hidden_as_well(door: Door, tmp_path: Path) -> None:
    keep_secret(door, "k", CANARY)
    head = "mlstead: 1\nkind: {}\nname: {}\n"
    body = "command: echo it is $TOKEN\n" + SECRET
    step = body.replace("\n", "\n    ")
    pipe = head.format("pipeline", "pipe") + f"steps:\n  one:\n    {step}\n"
    step = body.replace("\n", "\n  ")
    many = head.format("sweep", "many") + f"trial:\n  params: {{n: 0}}\n  {step}\n"
    door.good("run", work(tmp_path / "p", pipe))
    door.good("run", work(tmp_path / "s", many + "search: {points: [{n: 1}]}\n"))
    for run in ("pipe", "many"):
        assert door.good("logs", run).out.splitlines()[1:] == ["it is ***"]
        assert CANARY not in said(door, run)
    logs = [path for path in told_anywhere(door, but=("secrets.json",)) if "/log" not in path]
    assert logs == []


def test_the_secret_address_of_a_message_that_fails_stands_in_no_error(
    door: Door, tmp_path: Path
) -> None:
    keep_secret(door, "hook", f"slack+http://127.0.0.1:9/services/T00000000/B00000000/{CANARY}")
    text = (
        "mlstead: 1\nkind: job\nname: told\ncommand: 'true'\nresources: {cpu: 0.5, memory: 128Mi}\n"
        "notify: [{to: hook, when: [succeeded]}]\n"
    )
    door.good("run", work(tmp_path, text))
    database = door.home / "records.db"

    def tried() -> bool:
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as records:
            return bool(records.execute("SELECT 1 FROM outgoing WHERE tries > 0").fetchall())

    wait(tried, 60)
    assert CANARY not in said(door, "told")
    assert told_anywhere(door, but=("secrets.json",)) == []


@pytest.mark.parametrize("name", ["Bad Name", "../k", "--k", ""])
def test_an_error_about_a_secret_never_shows_its_value(door: Door, name: str) -> None:
    result = door.process("secret", "set", "--", name, stdin=CANARY)
    assert result.code == 2
    assert CANARY not in result.out + result.err
    assert "Traceback" not in result.err


# ---- data stays data

NASTY = [
    "; touch pwned",
    "$(touch pwned) `touch pwned`",
    "one\n--flag\r\n\ttwo",
    "'; DROP TABLE runs; --",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[red]markup[/red] \x1b[31mansi %s {0} {{ 7 * 7 }}",
    "../../etc/passwd\u202egnp.exe",
]


def test_what_looks_like_code_stays_data_in_parameters_labels_and_metrics(
    door: Door, tmp_path: Path
) -> None:
    names = [text for text in NASTY if text.isprintable()]
    program = (
        "import json, os, mlstead\n"
        "params = mlstead.params()\n"
        "assert [os.environ[f'MLSTEAD_PARAM_P{n}'] for n in range(len(params))] == "
        "[params[f'p{n}'] for n in range(len(params))]\n"
        f"for name in {names!r}: mlstead.log({{name: 1.5}})\n"
    )
    spec = {
        "mlstead": 1, "kind": "job", "name": "nasty", "command": ["python", "main.py"],
        "description": NASTY[4],
        "params": {f"p{number}": text for number, text in enumerate(NASTY)},
        "labels": {text: text for text in NASTY},
        "resources": {"cpu": 0.5, "memory": "128Mi"},
    }  # fmt: skip
    file = work(tmp_path / "code", json.dumps(spec), main_py=program)
    run = json.loads(door.good("run", file, "--json").out)["id"]
    details = door.show(run)
    assert details["run"]["params"] == spec["params"]
    assert details["run"]["labels"] == spec["labels"]
    assert set(details["metrics"]) == set(names)
    for verb in (("show", run), ("ps",), ("plan", str(file))):
        shown = door.good(*verb).out
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert [run["id"] for run in door.good("ps", "--json").json] == [run]
    assert list(tmp_path.rglob("pwned")) + list(door.home.rglob("pwned")) == []


@pytest.mark.parametrize("text", [*NASTY, "${{ run.id }} $${{ params.p }}"])
def test_what_looks_like_code_stays_data_when_it_is_given_to_a_verb(
    door: Door, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = work(tmp_path / "code", JOB + "command: 'true'\nparams: {p: x}\n")
    door.good("run", file, "-p", f"p={text}", "--token", text)
    [run] = door.good("ps", "--json").json
    assert door.show(run["id"])["run"]["params"] == {"p": text}
    for verb in ("show", "logs", "stop", "get"):
        assert door(verb, "--", text).code == 2
    for args in (("data", "show"), ("model", "show")):
        assert door(*args, "--", text).code == 2
    assert door("run", file, "--project", text).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["code"]
    assert len(door.good("ps", "--json").json) == 1


# ---- models

PICKLE = "cos\nsystem\n(S'touch {}'\ntR."


@pytest.mark.parametrize(
    ("card", "runtime"),
    [
        (None, "onnx"),
        ({"runtime": "onnx", "file": "model.pkl"}, ""),
        ({"runtime": "pickle", "file": "model.pkl"}, ""),
    ],
)
def test_a_pickle_in_a_model_folder_is_never_loaded(
    door: Door, tmp_path: Path, card: dict[str, str] | None, runtime: str
) -> None:
    touched = tmp_path / "touched"
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.pkl", "model.joblib", "model.onnx", "model.yaml"):
        (folder / name).write_text(PICKLE.format(touched))
    if card is not None:
        (folder / "mlstead-model.json").write_text(json.dumps(card))
    door.good("model", "add", "evil", folder)
    text = f"mlstead: 1\nkind: service\nname: calc\nmodel: evil@1\nruntime: '{runtime}'\n"
    result = door("run", work(tmp_path / "s", text))
    assert result.code in (1, 2)
    assert len(result.err.splitlines()) <= 2, result.err
    assert result.err.startswith("error: ")
    assert not touched.exists()
