"""The copy in MLflow: runs, points, parameters, model versions, and a script's own words."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlstead.clients.tracking import NewRun, NewVersion, default_uri, open_tracking
from mlstead.errors import NotFoundError, UnavailableError, UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of MLflow's own imports
    from mlflow import MlflowClient

    from mlstead.clients.mlflow import Tracking

if TYPE_CHECKING:
    from tests.unit.clients.conftest import Loopback


@dataclass(frozen=True)
class Point:
    key: str
    value: float
    step: int = 0
    time: float = 1_700_000_000.5
    rank: int = 0
    attempt: int = 1


MAKE = """
import os, sys
from mlstead.clients.tracking import NewRun, open_tracking
assert "mlflow" not in sys.modules
open_tracking(sys.argv[1]).open_run(NewRun("first", "n", "r"))
from mlflow.telemetry.client import get_telemetry_client
print(get_telemetry_client(), os.listdir("."))
"""


@dataclass(frozen=True)
class Made:
    """A store made by a process of its own, and what that process said."""

    home: Path
    uri: str
    said: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Made:
    home = tmp_path_factory.mktemp("mlflow") / "with space"
    uri = default_uri(home)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DO_NOT"))}
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MAKE, uri],
        env=clean,
        cwd=tmp_path_factory.mktemp("empty"),
        capture_output=True,
        text=True,
        timeout=250,
    )
    return Made(home, uri, said)


@pytest.fixture(scope="module")
def home(made_store: Made) -> Path:
    return made_store.home


@pytest.fixture(scope="module")
def uri(made_store: Made) -> str:
    return made_store.uri


@pytest.fixture(scope="module")
def tracking(uri: str) -> Tracking:
    store = open_tracking(uri)
    assert isinstance(store, Tracking)
    return store


@pytest.fixture
def client(tracking: Tracking, uri: str) -> Any:
    return MlflowClient(uri)


def runs(client: Any, project: str) -> list[Any]:
    experiment = client.get_experiment_by_name(project)
    return list(client.search_runs([experiment.experiment_id]))


def test_nothing_is_sent_home_nothing_chatted_and_no_folder_littered(made_store: Made) -> None:
    said = made_store.said
    assert (said.returncode, said.stdout.strip(), said.stderr) == (0, "None []", "")
    assert {path.name for path in made_store.home.iterdir()} >= {"mlflow.db"}
    assert not list(made_store.home.glob("*.new*"))


def test_mlflows_own_client_sees_the_run(tracking: Tracking, client: Any, home: Path) -> None:
    made = tracking.open_run(
        NewRun("seen", "train", "train-1", {"lr": 0.1, "opt": {"m": [1]}}, {"code": "abc"}, "", 7.5)
    )
    tracking.log_points(made, [Point("loss", 0.5, step) for step in range(3)])
    tracking.close_run(made, "succeeded", 9.25)
    (run,) = runs(client, "seen")
    assert (run.info.run_id, run.info.run_name, run.info.status) == (made, "train", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (7500, 9250)
    assert run.data.params == {"lr": "0.1", "opt": '{"m": [1]}'}
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.tags["code"] == "abc"
    assert run.info.artifact_uri.startswith((home / "mlartifacts" / "seen").as_uri())


def test_a_run_opened_twice_is_one(tracking: Tracking, client: Any, uri: str) -> None:
    run = NewRun("once", "train", "train-2", {"a": 1})
    made = tracking.open_run(run)
    assert tracking.open_run(run) == made
    assert Tracking(uri).open_run(run) == made
    assert len(runs(client, "once")) == 1


def test_a_trial_knows_its_sweep(tracking: Tracking, client: Any) -> None:
    sweep = tracking.open_run(NewRun("tree", "sweep", "s-1"))
    trial = tracking.open_run(NewRun("tree", "trial", "t-1", parent=sweep))
    assert client.get_run(trial).data.tags["mlflow.parentRunId"] == sweep


@pytest.mark.parametrize(
    ("state", "status"),
    [("failed", "FAILED"), ("lost", "FAILED"), ("cancelled", "KILLED"), ("succeeded", "FINISHED")],
)
def test_the_end_of_a_run_is_told_in_mlflows_words(
    tracking: Tracking, client: Any, state: str, status: str
) -> None:
    made = tracking.open_run(NewRun("ends", "x", f"ends-{state}"))
    tracking.close_run(made, state, 10.0)
    assert client.get_run(made).info.status == status


def test_many_points_arrive_and_a_repeat_changes_nothing(tracking: Tracking, client: Any) -> None:
    made = tracking.open_run(NewRun("points", "x", "points-1"))
    points = [Point("loss", step / 7, step, 1_700_000_000 + step) for step in range(2500)]
    tracking.log_points(made, points)
    tracking.log_points(made, points[2400:])
    history = client.get_metric_history(made, "loss")
    assert [(one.step, one.value) for one in sorted(history, key=lambda one: one.step)] == [
        (point.step, point.value) for point in points
    ]


def test_ranks_odd_names_nan_and_infinity_are_kept_as_mlflow_can(
    tracking: Tracking, client: Any
) -> None:
    made = tracking.open_run(NewRun("odd", "x", "odd-1"))
    tracking.log_points(
        made,
        [
            Point("loss", 1.0),
            Point("loss", 2.0, rank=1),
            Point("nan", math.nan),
            Point("inf", -math.inf),
            Point("a/../b//c%$\n", 3.0),
            Point("k" * 400, 4.0, 2**70, math.nan),
            Point("", 5.0),
        ],
    )
    found = client.get_run(made).data.metrics
    assert (found["loss"], found["loss/rank1"], found["a/b/c___"]) == (1.0, 2.0, 3.0)
    assert math.isnan(found["nan"])
    assert found["inf"] == -sys.float_info.max
    assert (found["k" * 250], found["_"]) == (4.0, 5.0)


def test_params_keep_their_first_value_and_fit_mlflows_limits(
    tracking: Tracking, client: Any
) -> None:
    made = tracking.open_run(NewRun("params", "x", "params-1", {"a": 1}))
    tracking.log_params(made, {"a": 2, "long": "x" * 9000, **{f"p{n}": n for n in range(250)}})
    found = client.get_run(made).data.params
    assert (found["a"], len(found["long"]), found["p249"]) == ("1", 6000, "249")


def test_tags_are_cut(tracking: Tracking, client: Any) -> None:
    made = tracking.open_run(NewRun("tags", "x", "tags-1"))
    tracking.set_tags(made, {"reason": "y" * 9000})
    assert len(client.get_run(made).data.tags["reason"]) == 8000


def test_a_script_that_calls_mlflow_finds_its_run_open_and_is_read_back(
    tracking: Tracking, client: Any, uri: str, tmp_path: Path
) -> None:
    made = tracking.open_run(NewRun("script", "train", "script-1", {"lr": 0.1}))
    tracking.log_points(made, [Point("ours", 1.0), Point("ours", 1.0, rank=2)])
    script = (
        "import mlflow\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_metric('own', 0.25, step=3)\n"
        "    mlflow.log_metric('own', 0.5, step=4)\n"
        "    mlflow.log_param('depth', 4)\n"
        "    print(run.info.run_id)\n"
    )
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_RUN_ID": made,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stdout.strip()) == (0, made), done.stderr
    back = tracking.read_back(made, known=["ours", "lr"])
    assert [(one.key, one.value, one.step) for one in back.points] == [
        ("own", 0.25, 3),
        ("own", 0.5, 4),
    ]
    assert back.params == {"depth": "4"}
    assert len(runs(client, "script")) == 1


def test_a_model_version_leads_back_and_has_our_number(tracking: Tracking, client: Any) -> None:
    run = tracking.open_run(NewRun("models", "train", "models-1"))
    tags = {"code": "tree-1", "data": "digits@1", "digest": "abc"}
    new = NewVersion("fashion", 1, "file:///models/1", run, tags, ("production",))
    assert tracking.register_model(new) == "1"
    assert tracking.register_model(new) == "1"
    found = client.get_model_version_by_alias("fashion", "production")
    assert (str(found.version), found.run_id, found.source) == ("1", run, "file:///models/1")
    assert {**tags, "mlstead.version": "1"}.items() <= found.tags.items()


def test_numbers_meet_again_after_versions_that_were_never_copied(
    tracking: Tracking, client: Any
) -> None:
    assert tracking.register_model(NewVersion("gap", 4, "file:///models/4")) == "4"
    assert tracking.register_model(NewVersion("gap", 2, "file:///models/2")) == "5"
    assert tracking.register_model(NewVersion("gap", 6, "file:///models/6")) == "6"
    there = {str(one.version): one.tags for one in client.search_model_versions("name = 'gap'")}
    assert {number: tags["mlstead.version"] for number, tags in there.items()} == {
        "4": "4",
        "5": "2",
        "6": "6",
    }


def test_an_alias_moves_and_goes(tracking: Tracking, client: Any) -> None:
    for number in (1, 2):
        tracking.register_model(NewVersion("moving", number, "file:///models/x"))
    assert tracking.set_alias("moving", "best", 1)
    assert tracking.set_alias("moving", "best", 2)
    assert str(client.get_model_version_by_alias("moving", "best").version) == "2"
    assert tracking.set_alias("moving", "best", 0)
    assert client.get_registered_model("moving").aliases == {}
    assert not tracking.set_alias("moving", "latest", 1)
    assert not tracking.set_alias("moving", "v3", 1)
    with pytest.raises(NotFoundError, match="no version 9"):
        tracking.set_alias("moving", "best", 9)


def test_a_run_that_is_not_there_is_told(tracking: Tracking) -> None:
    with pytest.raises(NotFoundError, match="MLflow"):
        tracking.log_points("0" * 32, [Point("a", 1.0)])
    with pytest.raises(NotFoundError):
        tracking.close_run("0" * 32, "failed", 1.0)


def test_a_name_that_mlflow_refuses_is_the_users_to_change(tracking: Tracking) -> None:
    with pytest.raises(UserError):
        tracking.register_model(NewVersion("a/b", 1, "file:///x"))


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(UnavailableError, match="MLflow"):
        Tracking(f"sqlite:///{tmp_path}/home/mlflow.db")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises((UnavailableError, UserError), match="MLflow"):
        Tracking(f"sqlite:///{tmp_path}/mlflow.db").open_run(NewRun("p", "n", "r"))


def test_a_server_that_is_not_there_is_unavailable(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnavailableError) as caught:
        Tracking(f"http://me:hidden@127.0.0.1:{closed_port}").open_run(NewRun("p", "n", "r"))
    assert "hidden" not in str(caught.value)


def test_a_server_that_is_ill_is_unavailable(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    loopback.answer = lambda asked: (500, json.dumps({"error_code": "INTERNAL_ERROR"}).encode())
    with pytest.raises(UnavailableError, match="MLflow"):
        Tracking(f"http://{loopback.host}").open_run(NewRun("p", "n", "r"))
