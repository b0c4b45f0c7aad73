"""Services as steps of a pipeline, and servers in an environment of their own."""

import json
import re
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from tests.local.calc import PREDICTOR, ask, model, request, service
from tests.local.front_door import Door, work

from mlstead.work.service_models import SERVER_NEEDS

PIPELINE = """\
mlstead: 1
kind: pipeline
name: asking
steps:
  serve:
    {{kind: service, name: calc, model: plus@1, code: ., lifetime: {lifetime},
     resources: {{cpu: 0.1, memory: 64Mi}}}}
  before:
    command: python ask.py ${{{{ steps.serve.values.url }}}}
    {small}
  use:
    needs: [before]
    command: test -e {mark} && python ask.py ${{{{ steps.serve.values.url }}}}
    {small}
"""
ASK = """\
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1] + "/v2/health/live", timeout=30).read().decode())
"""


def pipeline(folder: Path, lifetime: str, mark: Path) -> Path:
    small = "resources: {cpu: 0.1, memory: 64Mi}"
    text = PIPELINE.format(lifetime=lifetime, mark=mark, small=small)
    return work(folder, text, predictor_py=PREDICTOR, ask_py=ASK)


def test_a_service_of_a_pipeline_ends_with_it_and_starts_again_when_it_is_resumed(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    mark = tmp_path / "mark"
    file = pipeline(tmp_path / "p", "pipeline", mark)
    assert door("run", file).code == 1
    assert door("predict", "calc", request(tmp_path, 1)).code == 2
    mark.touch()
    door.good("run", "--resume", "asking")
    children = door.show("asking")["children"]
    states = [child["state"] for child in children if child["key"] == "serve"]
    assert states == ["succeeded", "succeeded"]
    assert len([child for child in children if child["key"] == "before"]) == 1
    assert door("predict", "calc", request(tmp_path, 1)).code == 2


def test_a_resumed_pipeline_starts_no_service_that_nothing_needs(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    mark = tmp_path / "mark"
    mark.touch()
    file = pipeline(tmp_path / "p", "pipeline", mark)
    file.write_text(file.read_text() + "  last: {needs: [use], command: 'false'}\n")
    assert door("run", file).code == 1
    assert door("run", "--resume", "asking").code == 1
    keys = [child["key"] for child in door.show("asking")["children"]]
    assert sorted(keys) == ["before", "last", "last", "serve", "use"]


def test_a_service_that_is_kept_serves_on_after_its_pipeline(door: Door, tmp_path: Path) -> None:
    model(door, tmp_path / "m1", 1)
    mark = tmp_path / "mark"
    mark.touch()
    door.good("run", pipeline(tmp_path / "p", "keep", mark))
    assert ask(door, request(tmp_path, 1)) == 2
    listed = door.good("ps", "-r", "--json").json
    assert [(run["name"], run["serving"]) for run in listed] == [("calc", True)]
    door.good("stop", "service/calc")


def locked(names: tuple[str, ...]) -> str:
    """Pin packages and what they need, as they are installed here."""
    found: dict[str, str] = {}
    wanted = list(names)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        found[name] = f"{name}=={version(name)}"
        needs = [Requirement(text) for text in requires(name) or ()]
        wanted += [need.name for need in needs if not need.marker or need.marker.evaluate()]
    return "\n".join(sorted(found.values())) + "\n"


def test_a_server_runs_in_the_environment_of_its_work_file(door: Door, tmp_path: Path) -> None:
    model(door, tmp_path / "m1", 1)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "lock.txt").write_text(locked(SERVER_NEEDS))
    loud = "import sys\nprint('RUNS', sys.prefix, flush=True)\n" + PREDICTOR
    more = "python: {lock: lock.txt}\nresources: {cpu: 0.1, memory: 256Mi}"
    door.good("run", service(tmp_path / "s", 1, more, loud))
    assert ask(door, request(tmp_path, 1)) == 2
    run = door.show("service/calc")["run"]
    assert run["environment"]
    assert f"/{run['environment']}\n" in door.good("logs", "calc").out
    door.good("stop", "calc")


def test_an_environment_without_what_the_server_needs_is_refused(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "lock.txt").write_text("numpy==2.0.0\nPydantic==2.11\n")
    result = door("run", service(tmp_path / "s", 1, "python: {lock: lock.txt}"))
    assert result.code == 2
    assert "httptools, orjson, prometheus-client, uvicorn, uvloop" in result.err
    old = "python: {lock: lock.txt, version: '3.9'}"
    result = door("run", service(tmp_path / "s", 1, old))
    assert (result.code, "3.11 or newer" in result.err) == (2, True)
    assert json.loads(door.good("ps", "--json").out) == []
