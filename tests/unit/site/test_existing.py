"""A cluster that is there is asked by programs of this machine: stand-ins that are processes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlstead.clients.cluster_programs import Programs, call
from mlstead.errors import NotFoundError, UnavailableError, UserError
from mlstead.plan import CLUSTER, Answer, Bundle, BundleFile, Facts, HostFacts, Release, mark
from mlstead.platform.sites import Sites
from mlstead.records.base import State
from mlstead.records.memory import MemoryStore
from mlstead.site import existing
from mlstead.site.fitness import unfit
from mlstead.site.planning import plan_site
from mlstead.site.session import Session
from mlstead.site.status import status
from mlstead.spec.base import freeze
from mlstead.spec.site import Site
from mlstead.testing.site_values import APPS, a_bundle, sites

SITE = sites()["existing"]
CONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://10.0.0.1:6443"}}}}]
users: [{{name: u, user: {{}}}}]
contexts: [{contexts}]
"""
SAYS = """\
#!{python}
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
said = json.loads((folder / "said.json").read_text())
words = sys.argv[5:]
given = "" if words[0] == "version" else sys.stdin.read()
with (folder / "asked").open("a") as file:
    file.write(json.dumps([sys.argv[1:], given]) + "\\n")
asked = (folder / "asked").read_text()
said = [it for it in said if len(it) < 5 or it[4] not in asked]
found = next((it for it in said if it[0] in " ".join(words)), ["", 0, '{{"items": []}}', ""])
sys.stdout.write(found[2])
sys.stderr.write(found[3])
sys.exit(found[1])
"""
VERSION = json.dumps({"clientVersion": {"minor": "36"}, "serverVersion": {"minor": "36+"}})
GOOD: list[list[Any]] = [["version", 0, VERSION, ""], ["create -f", 0, "true\n" * 40, ""]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with programs and a kubeconfig; nothing else is on the path."""
    for name in ("kubectl", "helm"):
        (tmp_path / name).write_text(SAYS.format(python=sys.executable), encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    _contexts(tmp_path, "prod")
    _says(tmp_path, *GOOD)
    return tmp_path


def _contexts(folder: Path, *names: str) -> None:
    entries = ", ".join(f"{{name: {it}, context: {{cluster: c, user: u}}}}" for it in names)
    (folder / "config").write_text(CONFIG.format(contexts=entries), encoding="utf-8")


def _says(folder: Path, *said: list[Any]) -> None:
    (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")


def _asked(folder: Path) -> list[list[Any]]:
    return [json.loads(it) for it in (folder / "asked").read_text(encoding="utf-8").splitlines()]


def _site(context: str = "", apps: dict[str, Any] | None = None) -> Site:
    kubernetes = SITE.kubernetes.model_copy(update={"context": context})
    return SITE.model_copy(
        update={"kubernetes": kubernetes, "apps": freeze(APPS if apps is None else apps)}
    )


def _reach(folder: Path, context: str = "", bundle: Bundle | None = None) -> existing.OnHere:
    return existing.reach(_site(context), folder / "config", bundle)


# ---- the way to it -------------------------------------------------------------------------


def test_the_only_context_is_taken_and_one_of_several_must_be_named(folder: Path) -> None:
    assert _reach(folder).programs.context == "prod"
    _contexts(folder, "prod", "test")
    assert _reach(folder, "test").programs.context == "test"
    with pytest.raises(UserError, match="has 2 contexts") as caught:
        _reach(folder)
    assert "prod, test" in caught.value.hint


def test_a_context_that_is_not_there_is_told_with_the_nearest(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no context prodd") as caught:
        _reach(folder, "prodd")
    assert "prod" in caught.value.hint


def test_a_kubeconfig_that_is_not_there_is_told(folder: Path) -> None:
    (folder / "config").unlink()
    with pytest.raises(NotFoundError, match="no such file") as caught:
        _reach(folder)
    assert "kubernetes.kubeconfig" in caught.value.hint


def test_without_kubectl_nothing_can_be_done(folder: Path) -> None:
    (folder / "kubectl").unlink()
    with pytest.raises(UserError, match="kubectl is not on this machine") as caught:
        _reach(folder)
    assert "bin/kubectl" in caught.value.hint


def test_without_helm_only_what_needs_it_fails(folder: Path) -> None:
    (folder / "helm").unlink()
    way = _reach(folder)
    way.run("kubectl", ("get", "nodes"))
    with pytest.raises(UserError, match="helm is not on this machine"):
        way.run("helm", ("list",))


def test_every_call_names_the_file_and_the_context(folder: Path) -> None:
    way = _reach(folder)
    way.run("kubectl", ("get", "nodes"), b"given")
    way.run("helm", ("list", "$(reboot)"))
    at = str(folder / "config")
    assert _asked(folder) == [
        [["--kubeconfig", at, "--context", "prod", "get", "nodes"], "given"],
        [["--kubeconfig", at, "--kube-context", "prod", "list", "$(reboot)"], ""],
    ]


def test_what_people_set_for_their_own_helm_does_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELM_DRIVER", "memory")
    script = "import os; print(*sorted(it for it in os.environ if it[:5] in ('HELM_', 'KUBER')))"
    assert call([sys.executable, "-c", script]).out.split() == [b"KUBERC"]


def test_a_program_that_takes_too_long_is_worth_another_try() -> None:
    with pytest.raises(UnavailableError, match="no answer within"):
        call([sys.executable, "-c", "import time; time.sleep(60)"], patience=0.2)


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    (tmp_path / "kubectl").write_text("no program", encoding="utf-8")
    with pytest.raises(UserError, match="kubectl"):
        call([str(tmp_path / "kubectl")])


# ---- the bundle's programs -----------------------------------------------------------------


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    """Give a bundle in which kubectl is a link, as there are several programs in one."""
    place = folder / "bundle"
    (place / "bin").mkdir(parents=True)
    (place / "charts").mkdir()
    files = []
    for path in ("bin/hyperkube", "bin/helm", "charts/db-1.0.0.tgz"):
        (place / path).write_bytes(b"content of " + path.encode())
        digest = hashlib.sha256(b"content of " + path.encode()).hexdigest()
        files.append(BundleFile(path, digest, 1))
    (place / "bin/kubectl").symlink_to("hyperkube")
    return Bundle(str(place), {}, tuple(files), {"bin/kubectl": "hyperkube"})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on a machine that runs what a bundle has."""
    monkeypatch.setattr("mlstead.site.existing.sys.platform", "linux")
    monkeypatch.setattr("mlstead.site.existing.platform.machine", lambda: "x86_64")


@pytest.mark.usefixtures("here")
def test_programs_of_the_bundle_go_before_those_of_the_machine(
    folder: Path, bundle: Bundle
) -> None:
    found = _reach(folder, bundle=bundle).programs
    assert (found.kubectl, found.helm) == (
        f"{bundle.folder}/bin/kubectl",
        f"{bundle.folder}/bin/helm",
    )


def test_a_machine_that_cannot_run_them_takes_its_own(
    folder: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlstead.site.existing.platform.machine", lambda: "arm64")
    assert _reach(folder, bundle=bundle).programs.kubectl == str(folder / "kubectl")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("path", ["bin/hyperkube", "bin/helm"])
def test_a_program_that_was_changed_is_not_run(folder: Path, bundle: Bundle, path: str) -> None:
    (Path(bundle.folder) / path).write_bytes(b"other")
    with pytest.raises(UserError, match="not as the manifest says"):
        _reach(folder, bundle=bundle)


def test_a_chart_that_was_changed_is_not_installed(folder: Path, bundle: Bundle) -> None:
    way = existing.OnHere(Programs("k", "h", folder / "config", "prod"), bundle)
    assert way.chart("db-1.0.0.tgz") == f"{bundle.folder}/charts/db-1.0.0.tgz"
    (Path(bundle.folder) / "charts/db-1.0.0.tgz").write_bytes(b"other")
    with pytest.raises(UserError, match="not as the manifest says"):
        way.chart("db-1.0.0.tgz")
    with pytest.raises(UserError, match="no bundle"):
        replace(way, bundle=None).chart("db-1.0.0.tgz")


# ---- what is found -------------------------------------------------------------------------


def _look(folder: Path, *said: list[Any], apps: dict[str, Any] | None = None) -> Any:
    _says(folder, *said, *GOOD)
    site = _site(apps=apps)
    return existing.look(site, existing.OnHere(_reach(folder).programs, a_bundle()))


def _one(kind: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def test_what_is_ours_is_found_as_on_a_control_plane(folder: Path) -> None:
    one = _one("Namespace", "mlstead-storage", mark(SITE, "local_path"))
    secrets = ["get secrets", 0, '{"items": []}', ""]
    found = _look(
        folder, secrets, ["get namespaces,", 0, json.dumps({"items": [one]}), ""], apps={}
    )
    assert found.problems == {}
    assert found.facts.objects == {"Namespace/mlstead-storage": one}
    assert found.facts.releases == {}
    (step,) = plan_site(_site(apps={}), found.facts)
    assert (step.key, step.tasks) == ("local_path:cluster/objects", "remove")


def test_nothing_but_reading_is_asked(folder: Path) -> None:
    _look(folder)
    for words, given in _asked(folder):
        reviews = json.loads(given)["items"] if words[4] == "create" else ()
        assert words[4] in ("get", "version", "label") or all(
            it["kind"] == "SelfSubjectAccessReview" for it in reviews
        ), words


def test_a_cluster_that_does_not_answer_is_one_problem_and_no_plan(folder: Path) -> None:
    said = ["", 1, "", "Unable to connect to the server: dial tcp: i/o timeout"]
    found = _look(folder, said)
    assert isinstance(found.problems[CLUSTER], UnavailableError)
    assert list(unfit(_site(), found.facts)) == []
    assert [it.state for it in status(_site(), found).machines] == ["unreachable"]
    assert {it.state for it in status(_site(), found).apps} == {"unknown"}


def test_a_user_who_may_not_read_is_told_why(folder: Path) -> None:
    said = ["get namespaces,", 1, "", 'Error (Forbidden): "ann" cannot list namespaces']
    problem = _look(folder, said).problems[CLUSTER]
    assert isinstance(problem, UserError)
    assert 'prod: kubectl: Error (Forbidden): "ann" cannot list namespaces' in str(problem)


def test_releases_that_cannot_be_read_are_not_taken_for_none(folder: Path) -> None:
    found = _look(folder, ["get secrets", 1, "", "secrets are forbidden\n"])
    assert str(found.problems[CLUSTER]) == "prod: kubectl: secrets are forbidden"


def test_what_stands_under_our_names_and_is_not_ours_is_named(folder: Path) -> None:
    items = [
        _one("Namespace", "metallb-system", {"mlstead.io/site": "other"}),
        _one("StorageClass", "local-path", {}),
        _one("Namespace", "mlstead-storage", mark(_site(), "local_path")),
    ]
    found = _look(folder, ["get -f - --ignore", 1, json.dumps({"items": items}), "no matches"])
    assert found.facts.taken == ("Namespace/metallb-system", "StorageClass/local-path")
    (told,) = unfit(_site(), found.facts)
    assert told.stops
    assert told.message.startswith("Namespace/metallb-system, StorageClass/local-path: there")


def test_a_release_that_another_made_is_named() -> None:
    site = _site(apps={"metrics_server": None})
    steps = plan_site(site, Facts(bundle=a_bundle()))
    releases = {"kube-system/metrics-server": Release("metrics-server", "1.0.0", "deployed", 1)}
    assert existing._releases(Facts(releases=releases), site, steps) == [
        "the release kube-system/metrics-server"
    ]
    ours = replace(releases["kube-system/metrics-server"], labels=mark(site, "metrics_server"))
    facts = Facts(releases={"kube-system/metrics-server": ours})
    assert existing._releases(facts, site, steps) == []


# ---- leaving it ----------------------------------------------------------------------------


def _opened(folder: Path, *said: list[Any]) -> tuple[Sites, Session]:
    _says(folder, *said, *GOOD)
    (folder / "site.yaml").write_text(
        "mlstead: 1\nkind: site\nname: existing\n"
        "kubernetes: {distribution: existing, kubeconfig: config}\n",
        encoding="utf-8",
    )
    store = MemoryStore()
    sites = Sites(folder / "home", lambda: store, "p")
    return sites, sites.open(sites.load(folder / "site.yaml"))


def _marked() -> str:
    return json.dumps({"items": [_one("ConfigMap", "x", mark(SITE, "local_path"))]})


def test_a_removal_takes_what_is_marked_and_forgets_the_site(folder: Path) -> None:
    sites, session = _opened(folder, ["get namespaces,", 0, _marked(), "", '"delete"'])
    with session:
        session.settle()
        run = sites.remove(session, lambda event: None, keep_data=False, dead=False)
        assert session.state("head") == ""
    assert (run.state, run.engine) == (State.SUCCEEDED, "kubectl")
    deleted = [json.loads(given)["items"] for words, given in _asked(folder) if "delete" in words]
    assert [one["metadata"] for items in deleted for one in items] == [{"name": "x"}]


def test_a_removal_that_leaves_something_says_so_and_keeps_the_site(folder: Path) -> None:
    sites, session = _opened(folder, ["get namespaces,", 0, _marked(), ""])
    with session:
        session.settle()
        with pytest.raises(UserError, match="not all could be taken away: local_path:cluster"):
            sites.remove(session, lambda event: None, keep_data=False, dead=False)
        assert session.state("head")


def test_what_others_made_of_an_apps_kinds_keeps_the_site_from_being_removed(
    folder: Path,
) -> None:
    release = {"name": "metallb", "namespace": "metallb-system", "version": 1,
               "chart": {"metadata": {"name": "metallb", "version": "0.16.1"}},
               "info": {"status": "deployed"}}  # fmt: skip
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode())))
    labels = {"owner": "helm", **mark(SITE, "metallb")}
    secret = {"data": {"release": packed.decode()}, "metadata": {"labels": labels}}
    sites, session = _opened(
        folder,
        ["get secrets", 0, json.dumps({"items": [secret]}), ""],
        ["label --local", 0, '{"kind": "ConfigMap", "metadata": '
         '{"name": "mlstead-release-0", "labels": {}}}', ""],
        ["ipaddresspools", 0, json.dumps({"items": [_one("IPAddressPool", "mine", {})]}), ""],
    )  # fmt: skip
    with session, pytest.raises(UserError, match="IPAddressPool/mine would be lost with metallb"):
        sites.remove(session, lambda event: None, keep_data=False, dead=False)
    assert not [words for words, _ in _asked(folder) if "uninstall" in words]


def test_a_cluster_that_is_gone_is_forgotten_only_when_somebody_says_so(folder: Path) -> None:
    away = ["", 1, "", "Unable to connect to the server: dial tcp: i/o timeout"]
    sites, session = _opened(folder, away)
    with session:
        with pytest.raises(UnavailableError) as caught:
            sites.remove(session, lambda event: None, keep_data=False, dead=False)
        assert "--dead" in caught.value.hint
        assert sites.plan(session).steps == ()
        run = sites.remove(session, lambda event: None, keep_data=False, dead=True)
    assert run.state is State.SUCCEEDED


def test_no_ssh_is_needed(folder: Path) -> None:
    sites, session = _opened(folder)  # the path has kubectl and helm alone
    with session:
        assert sites.strangers(session) == []
        assert sites.plan(session).stop is None
        assert sites.apply(session, lambda event: None) is None


# ---- whether it will do --------------------------------------------------------------------


def _facts(version: str = VERSION, rights: str = "true\n" * 40, **more: Any) -> Facts:
    answers = {"version": Answer(0, version), "rights": Answer(0, rights)}
    found = Facts(hosts={CLUSTER: HostFacts(answers=answers)}, bundle=a_bundle(), charts=("x",))
    return replace(found, **more)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("36", []),
        ("33", []),
        ("37", []),
        ("32+", [("Kubernetes 1.32 is too old for these programs", True)]),
        ("38", [("Kubernetes 1.38 is newer than kubectl 1.36 knows", False)]),
    ],
)
def test_versions_within_what_the_programs_support_are_taken(
    server: str, said: list[tuple[str, bool]]
) -> None:
    text = json.dumps({"clientVersion": {"minor": "36"}, "serverVersion": {"minor": server}})
    assert [(it.message, it.stops) for it in unfit(_site(), _facts(text))] == said


def test_who_may_everything_needs_no_list() -> None:
    assert list(unfit(_site(), _facts(rights="true\n"))) == []


def test_who_may_each_of_what_is_needed_is_no_administrator_and_will_do() -> None:
    count = len(existing.CHANGED) * len(existing.VERBS)
    assert list(unfit(_site(), _facts(rights="false\n" + "true\n" * count))) == []


def test_what_the_user_may_not_do_is_named() -> None:
    count = len(existing.CHANGED) * len(existing.VERBS)
    rights = "false\n" + "true\n" * (count - 1) + "false\n"
    (told,) = unfit(_site(), _facts(rights=rights))
    assert told.message.endswith("may not delete apiservices.apiregistration.k8s.io")
    assert told.stops


def test_rights_that_nobody_tells_stop() -> None:
    (told,) = unfit(_site(), _facts(rights=""))
    assert "cannot be known" in told.message


def test_without_a_bundle_an_app_of_plain_objects_is_refused() -> None:
    site = _site(apps={"local_path": None})
    (told,) = unfit(site, _facts(bundle=None, charts=()))
    assert "no bundle" in told.message


# ---- how it is -----------------------------------------------------------------------------


def test_status_lists_the_clusters_own_nodes_and_the_sites_apps(folder: Path) -> None:
    node = {
        "metadata": {"name": "n1"},
        "spec": {},
        "status": {
            "addresses": [{"type": "Hostname", "address": "n1"},
                          {"type": "InternalIP", "address": "10.0.0.7"}],
            "nodeInfo": {"kubeletVersion": "v1.36.3", "osImage": "Debian"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip
    found = _look(folder, ["get nodes", 0, json.dumps({"items": [node]}), ""])
    told = status(_site(), found)
    (one,) = told.machines
    assert (one.name, one.address, one.state, one.node) == ("n1", "10.0.0.7", "ok", "Ready")
    assert (one.memory, one.disk, told.strangers) == (None, None, ())
    assert {it.name: it.state for it in told.apps} == dict.fromkeys(APPS, "not as described")
