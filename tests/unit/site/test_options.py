"""Options of apps: every mistake with its place, and all options in the schema of the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from mlstead.errors import SpecError
from mlstead.site.options import app_options, check_options, site_schema
from mlstead.spec.load import load_site

HEAD = """\
mlstead: 1
kind: site
name: lab
machines:
  h1: {address: 10.0.0.1, roles: [control-plane]}
apps:
"""


def _said(folder: Path, apps: str) -> list[str]:
    path = folder / "site.yaml"
    path.write_text(HEAD + apps, encoding="utf-8")
    try:
        check_options(load_site(path))
    except SpecError as error:
        return str(error).replace(f"{path}:", "").splitlines()
    return []


def test_good_options_are_taken(tmp_path: Path) -> None:
    apps = "  local_path:\n  metrics_server: {seconds: 30}\n  metallb: {addresses: [10.0.0.8/30]}\n"
    assert _said(tmp_path, apps) == []


@pytest.mark.parametrize(
    ("apps", "said"),
    [
        ("  metalb: {}\n", "7:3: apps.metalb: there is no app metalb; did you mean metallb?"),
        (
            "  pod_network: {}\n",
            "7:3: apps.pod_network: there is no app pod_network; "
            "known: local_path, metallb, metrics_server",
        ),
        (
            "  metrics_server:\n    second: 30\n",
            "8:5: apps.metrics_server.second: unknown field; did you mean seconds?",
        ),
        (
            "  metrics_server: {seconds: often}\n",
            "7:29: apps.metrics_server.seconds: must be a whole number; found the text 'often'",
        ),
        (
            "  metrics_server: {seconds: 5}\n",
            "7:29: apps.metrics_server.seconds: must be at least 11; found 5",
        ),
        (
            "  local_path: true\n",
            "7:15: apps.local_path: must be a map of options; found true; "
            "without any: local_path: {}",
        ),
        ("  metallb:\n", "7:11: apps.metallb.addresses: is required"),
        (
            "  metallb: {addresses: [10.0.0.9]}\n",
            "7:25: apps.metallb.addresses[0]: must be addresses such as "
            "192.168.10.200-192.168.10.220 or 192.168.10.200/29; found 10.0.0.9",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, apps: str, said: str) -> None:
    assert _said(tmp_path, apps) == [said]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    apps = "  metrics_server: {seconds: 1}\n  nothing: {}\n  metallb: {addresses: []}\n"
    assert [line.split(": ")[0] for line in _said(tmp_path, apps)] == ["7:29", "8:3", "9:24"]


# ---- the schema ----------------------------------------------------------------------------


def _fits(apps: dict[str, Any]) -> bool:
    machines = {"h1": {"address": "10.0.0.1", "roles": ["control-plane"]}}
    site = {"mlstead": 1, "kind": "site", "name": "lab", "machines": machines, "apps": apps}
    return bool(Draft202012Validator(site_schema()).is_valid(site))


def test_the_schema_of_the_site_has_every_app_with_its_options() -> None:
    schema = site_schema()
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]["apps"]["properties"]) == set(app_options())


@pytest.mark.parametrize(
    "apps",
    [
        {},
        {"local_path": {}},
        {"local_path": None},
        {"metrics_server": {"seconds": 30}},
        {"metallb": {"addresses": ["10.0.0.8/30"]}},
    ],
)
def test_good_options_fit_the_schema(apps: dict[str, Any]) -> None:
    assert _fits(apps)


@pytest.mark.parametrize(
    "apps",
    [
        {"metalb": {}},
        {"local_path": {"defualt": True}},
        {"metrics_server": {"seconds": 5}},
        {"metallb": None},
        {"metallb": {"addresses": []}},
    ],
)
def test_bad_options_do_not_fit_the_schema(apps: dict[str, Any]) -> None:
    assert not _fits(apps)


def test_every_option_is_described() -> None:
    for name, model in app_options().items():
        assert model.__doc__, name
        assert all(field.description for field in model.model_fields.values()), name


def test_a_cluster_that_is_there_has_the_same_apps(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    cluster = "kubernetes: {distribution: existing, kubeconfig: k}\n"
    head = "mlstead: 1\nkind: site\nname: lab\n" + cluster
    path.write_text(head + "apps: {metrics_server: {seconds: 30}}\n", encoding="utf-8")
    check_options(load_site(path))
    path.write_text(head + "apps: {metrics_server: {seconds: 5}}\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"5:34: apps.metrics_server.seconds: must be at least 11"):
        check_options(load_site(path))
