"""A job through the front door: run, logs, outputs, exit codes, stop, detach, parameters."""

import json
from pathlib import Path

from tests.local.front_door import Door, work

JOB = "mlstead: 1\nkind: job\nname: job\nresources: {cpu: 1, memory: 256Mi}\n"


def test_a_job_runs_prints_its_output_and_is_recorded(door: Door, tmp_path: Path) -> None:
    file = work(tmp_path, JOB + 'command: ["echo", "hello there"]\n')
    result = door.good("run", file)
    assert result.out == "hello there\n"
    [run] = door.good("ps", "--json").json
    assert (run["name"], run["state"]) == ("job", "succeeded")
    assert door.good("logs", run["id"]).out == "hello there\n"


def test_a_failing_program_gives_exit_code_1_and_one_line(door: Door, tmp_path: Path) -> None:
    file = work(tmp_path, JOB + "command: exit 3\n")
    result = door("run", file)
    assert result.code == 1
    assert "exit code 3" in result.err
    assert "Traceback" not in result.err
    assert door.show("job")["run"]["status"]["exit_code"] == 3


def test_the_folder_of_the_work_file_travels_with_uncommitted_changes(
    door: Door, tmp_path: Path
) -> None:
    file = work(tmp_path / "a", JOB + "command: python main.py\n", main_py="print('one')\n")
    assert door.good("run", file).out == "one\n"
    (tmp_path / "a" / "main.py").write_text("print('two')\n")
    assert door.good("run", file).out == "two\n"
    codes = {
        run["code"] for run in (door.show(r["id"])["run"] for r in door.good("ps", "--json").json)
    }
    assert len(codes) == 2


def test_links_between_outputs_are_kept_as_copies(door: Door, tmp_path: Path) -> None:
    text = JOB + (
        "command: |\n"
        "  cd $MLSTEAD_OUTPUTS; mkdir model steps\n"
        "  echo weights > model/w; echo first > steps/1\n"
        "  ln -s model latest; ln -s model/w best.w; ln -s ../model/w steps/2\n"
        "  ln -s steps/1 early; ln -s $PWD/early one\n"
        "outputs: {model: {kind: model, name: net}, early: {kind: data}}\n"
    )
    door.good("run", work(tmp_path, text))
    links = {link["slot"]: link["ref"] for link in door.show("job")["links"]}
    assert links == {"model": "net@1", "early": "", "files": ""}
    door.good("get", "job", "--to", tmp_path / "got")
    got = {
        path.relative_to(tmp_path / "got").as_posix(): path.read_text()
        for path in (tmp_path / "got").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert got == {
        "model/w": "weights\n",
        "early": "first\n",
        "files/latest/w": "weights\n",
        "files/best.w": "weights\n",
        "files/steps/1": "first\n",
        "files/steps/2": "weights\n",
        "files/one": "first\n",
    }


def test_outputs_become_versions_and_can_be_fetched(door: Door, tmp_path: Path) -> None:
    text = JOB + (
        "command: |\n"
        "  mkdir $MLSTEAD_OUTPUTS/model\n"
        "  echo weights > $MLSTEAD_OUTPUTS/model/w\n"
        "  echo extra > $MLSTEAD_OUTPUTS/notes.txt\n"
        '  echo "{\\"accuracy\\": 0.5}" > $MLSTEAD_OUTPUTS/values.json\n'
        "outputs: {model: {kind: model, name: net}, accuracy: {kind: value}}\n"
    )
    door.good("run", work(tmp_path, text))
    [version] = door.good("model", "list", "--json").json
    assert (version["name"], version["number"]) == ("net", 1)
    details = door.show("job")
    assert details["run"]["values"] == {"accuracy": 0.5}
    assert {link["slot"]: link["ref"] for link in details["links"]} == {
        "model": "net@1",
        "files": "",
    }
    door.good("get", "job", "--to", tmp_path / "got")
    assert (tmp_path / "got" / "model" / "w").read_text() == "weights\n"
    assert (tmp_path / "got" / "files" / "notes.txt").read_text() == "extra\n"


def test_a_declared_output_that_is_missing_fails_the_run(door: Door, tmp_path: Path) -> None:
    file = work(tmp_path, JOB + "command: 'true'\noutputs: {model: {kind: model, name: net}}\n")
    result = door("run", file)
    assert result.code == 1
    assert "model" in result.err
    assert door.good("model", "list", "--json").json == []


def test_outputs_of_a_failed_run_are_kept_as_partial_and_make_no_version(
    door: Door, tmp_path: Path
) -> None:
    text = JOB + (
        "command: mkdir $MLSTEAD_OUTPUTS/model; echo half > $MLSTEAD_OUTPUTS/model/w; exit 1\n"
        "outputs: {model: {kind: model, name: net}}\n"
    )
    assert door("run", work(tmp_path, text)).code == 1
    [link] = door.show("job")["links"]
    assert link["partial"] is True
    assert door.good("model", "list", "--json").json == []


def test_parameters_arrive_as_file_variable_and_in_the_command(door: Door, tmp_path: Path) -> None:
    nasty = 'it\'s; $(touch pwned) `id` "x" \n--flag'
    program = (
        "import json, os, sys\n"
        "params = json.load(open(os.environ['MLSTEAD_PARAMS']))\n"
        "print(json.dumps([params['text'], os.environ['MLSTEAD_PARAM_TEXT'], sys.argv[1]]))\n"
    )
    text = JOB + (
        "command: python show.py ${{ params.text }}\nparams: {text: plain}\noutputs: {}\n"
    )
    file = work(tmp_path, text, show_py=program)
    result = door.good("run", file, "-p", f"text={nasty}")
    assert json.loads(result.out) == [nasty, nasty, nasty]


def test_a_detached_job_goes_on_and_its_outputs_are_kept(door: Door, tmp_path: Path) -> None:
    text = JOB + (
        "command: sleep 0.5; echo done > $MLSTEAD_OUTPUTS/result\n"
        "outputs: {result: {kind: data, name: result}}\n"
    )
    run = door.good("run", "-d", work(tmp_path, text)).out.strip()
    door.until(run, "succeeded")
    [version] = door.good("data", "list", "--json").json
    assert version["run_id"] == run


def test_stop_ends_a_running_job_and_twice_changes_nothing(door: Door, tmp_path: Path) -> None:
    run = door.good("run", "-d", work(tmp_path, JOB + "command: sleep 100\n")).out.strip()
    door.until(run, "running")
    door.good("stop", run, "--wait")
    assert door.state(run) == "cancelled"
    door.good("stop", run)
    assert door.state(run) == "cancelled"


def test_a_token_makes_one_run_however_often_it_is_submitted(door: Door, tmp_path: Path) -> None:
    file = work(tmp_path, JOB + "command: echo once\n")
    first = door.good("run", "-d", "--token", "t1", file).out
    second = door.good("run", "-d", "--token", "t1", file).out
    assert first == second
    assert len(door.good("ps", "--json").json) == 1


def test_a_program_that_is_not_there_is_named(door: Door, tmp_path: Path) -> None:
    result = door("run", work(tmp_path, JOB + 'command: ["no-such-program"]\n'))
    assert result.code == 1
    assert "no-such-program" in result.err


def test_init_writes_a_work_file_that_runs(door: Door, tmp_path: Path) -> None:
    door.good("init", tmp_path / "first")
    result = door.good("run", tmp_path / "first" / "mlstead.yaml", "-p", "greeting=Salve")
    assert result.out.startswith("Salve from hello-")
    details = door.show("hello")
    assert details["metrics"]["score"]["value"] == 1.0
    assert door("init", tmp_path / "first").code == 2


def test_an_output_that_cannot_be_kept_is_named_with_the_place_of_all_files(
    door: Door, tmp_path: Path
) -> None:
    text = JOB + (
        "command: |\n"
        "  mkdir $MLSTEAD_OUTPUTS/model\n"
        "  echo weights > $MLSTEAD_OUTPUTS/model/w\n"
        "  mkfifo $MLSTEAD_OUTPUTS/model/pipe\n"
        "outputs: {model: {kind: model, name: net}}\n"
    )
    assert door("run", work(tmp_path, text)).code == 1
    detail = door.show("job")["run"]["detail"]
    said, _, place = detail.partition(") (remove it")[0].partition(" (in ")
    assert said == "pipe: a named pipe cannot be kept"
    assert (Path(place) / "w").read_text() == "weights\n"


def test_show_tells_what_the_work_is_for_and_what_it_was_given(door: Door, tmp_path: Path) -> None:
    text = JOB + "command: 'true'\ndescription: To see.\nlabels: {team: vision, part: one}\n"
    door.good("run", work(tmp_path, text))
    shown = {
        line.partition("  ")[0]: line.rstrip() for line in door.good("show", "job").out.splitlines()
    }
    assert shown["description"].endswith("To see.")
    assert shown["labels"].endswith("team=vision, part=one")
    assert shown["resources"].endswith("cpu 1, memory 256.0 MiB")
    run = door.show("job")["run"]
    assert run["labels"] == {"team": "vision", "part": "one"}
    assert run["spec"]["description"] == "To see."
    assert run["spec"]["resources"]["memory"] == 256 << 20
