"""What the apps put in a cluster: objects and values, from a site and what was found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlstead.apps import local_path, metallb, metrics_server
from mlstead.plan import Bundle, BundleFile, Facts, Release, Step, object_key
from mlstead.site.components import apps
from mlstead.spec.site import Site

IMAGES = (
    "docker.io/library/busybox:1",
    "docker.io/rancher/local-path-provisioner:v0.0.37",
    "quay.io/metallb/controller:v0.16.1",
    "quay.io/metallb/speaker:v0.16.1",
    "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
)
FILES = tuple(
    BundleFile(f"charts/{name}.tgz", "0" * 64, 1)
    for name in ("metallb-0.16.1", "metrics-server-3.13.0")
)
BUNDLE = Bundle("/bundle", {}, FILES, images=IMAGES)
APPS: dict[str, Any] = {
    "local_path": None,
    "metallb": {"addresses": ["10.0.0.100-10.0.0.110", "10.0.0.128/28"]},
    "metrics_server": {},
}
MODULES = {"local_path": local_path, "metallb": metallb, "metrics_server": metrics_server}


def _site(apps: dict[str, Any], **more: Any) -> Site:
    machines = {"h1": {"address": "10.0.0.1", "roles": ["control-plane"]}}
    return Site.model_validate({"name": "lab", "machines": machines, "apps": apps, **more})


def _plan(name: str, facts: Facts, apps: dict[str, Any] | None = None) -> list[Step]:
    part = MODULES[name].PART
    steps: list[Step] = part.plan(_site(APPS if apps is None else apps), facts)
    return steps


def _done(steps: list[Step]) -> Facts:
    """Give facts in which steps have been done."""
    objects = {object_key(one): one for step in steps for one in step.arguments.get("objects", ())}
    releases = {
        f"{it['namespace']}/{it['release']}": Release(
            it["chart"].rsplit("-", 1)[0],
            it["version"],
            "deployed",
            1,
            it["values"],
            labels=it["labels"],
            source=it["sha256"],
        )
        for it in (step.arguments for step in steps if step.action == "helm")
    }
    return Facts(bundle=BUNDLE, objects=objects, releases=releases)


@pytest.mark.parametrize("name", MODULES)
def test_an_app_that_the_site_does_not_name_is_not_installed(name: str) -> None:
    assert _plan(name, Facts(bundle=BUNDLE), {}) == []


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_left_when_all_is_there(name: str) -> None:
    steps = _plan(name, Facts(bundle=BUNDLE))
    assert steps
    assert _plan(name, _done(steps)) == []


@pytest.mark.parametrize("name", MODULES)
def test_in_a_cluster_that_is_there_an_app_is_the_same(name: str) -> None:
    kubernetes = {"distribution": "existing", "kubeconfig": "x"}
    site = Site.model_validate({"name": "lab", "apps": APPS, "kubernetes": kubernetes})
    found = MODULES[name].PART.plan(site, Facts(bundle=BUNDLE))
    assert found == _plan(name, Facts(bundle=BUNDLE))


@pytest.mark.parametrize("name", MODULES)
def test_everything_of_an_app_is_marked_as_the_sites_and_the_apps(name: str) -> None:
    marks = {"mlstead.io/site": "lab", "mlstead.io/app": name}
    for step in _plan(name, Facts(bundle=BUNDLE)):
        found = [one["metadata"]["labels"] for one in step.arguments.get("objects", ())]
        found += [step.arguments["labels"]] if step.action == "helm" else []
        assert found
        assert all(marks.items() <= labels.items() for labels in found)


@pytest.mark.parametrize("name", ["cluster_dns", "pod_network"])
def test_a_cluster_that_is_there_keeps_its_own_names_and_network(name: str) -> None:
    kubernetes = {"distribution": "existing", "kubeconfig": "x"}
    site = Site.model_validate({"name": "lab", "apps": APPS, "kubernetes": kubernetes})
    assert apps()[name].plan(site, Facts(bundle=BUNDLE)) == []  # type: ignore[misc]


@pytest.mark.parametrize("name", MODULES)
def test_an_image_that_the_bundle_lacks_is_told_before(name: str) -> None:
    part = MODULES[name].PART
    assert part.unmet(_site(APPS), Facts(bundle=BUNDLE)) == []
    assert part.unmet(_site(APPS), Facts(bundle=Bundle("/b", {}, FILES)))
    assert part.unmet(_site({}), Facts(bundle=Bundle("/b", {}, ()))) == []


# ---- local_path ----------------------------------------------------------------------------


def _objects(apps: dict[str, Any]) -> dict[str, Any]:
    (step,) = _plan("local_path", Facts(bundle=BUNDLE), apps)
    return {one["kind"]: one for one in step.arguments["objects"]}


@pytest.mark.parametrize(("options", "word"), [({}, "true"), ({"default": False}, "false")])
def test_the_class_of_local_volumes_is_the_default_unless_asked_otherwise(
    options: dict[str, Any], word: str
) -> None:
    found = _objects({"local_path": options})["StorageClass"]
    assert found["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": word}
    assert found["volumeBindingMode"] == "WaitForFirstConsumer"


def test_the_provisioner_may_change_pods_in_its_own_namespace_only() -> None:
    everywhere = _objects({"local_path": {}})["ClusterRole"]["rules"]
    changing = {"create", "patch", "update", "delete", "*"}
    changed = {
        it for rule in everywhere if changing & set(rule["verbs"]) for it in rule["resources"]
    }
    assert changed == {"persistentvolumes", "events"}
    assert not any("secrets" in rule["resources"] for rule in everywhere)


def test_the_provisioner_runs_without_privileges_and_its_settings_can_be_read() -> None:
    objects = _objects({"local_path": {}})
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]
    data = objects["ConfigMap"]["data"]
    assert json.loads(data["config.json"])["nodePathMap"][0]["paths"] == ["/srv/mlstead-volumes"]
    helper = json.loads(data["helperPod.yaml"])["spec"]
    assert helper["containers"][0]["image"] == "docker.io/library/busybox:1"
    assert helper["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", ["StorageClass", "Deployment", "ConfigMap", "Namespace"])
def test_an_object_that_is_gone_is_the_only_reason(kind: str) -> None:
    done = _done(_plan("local_path", Facts(bundle=BUNDLE)))
    (lost,) = (key for key in done.objects or {} if key.startswith(f"{kind}/"))
    objects = {key: one for key, one in (done.objects or {}).items() if key != lost}
    (step,) = _plan("local_path", Facts(bundle=BUNDLE, objects=objects))
    assert step.reasons == (f"{lost} is not there",)


# ---- metrics_server ------------------------------------------------------------------------


def test_kubelets_with_certificates_of_their_own_are_taken_only_when_the_site_says_so() -> None:
    options = {"metrics_server": {"verify": False}}
    (step,) = _plan("metrics_server", Facts(bundle=BUNDLE), options)
    (before,) = _plan("metrics_server", Facts(bundle=BUNDLE), {"metrics_server": {}})
    told, checked = (it.arguments["values"]["defaultArgs"] for it in (step, before))
    assert set(told) - set(checked) == {"--kubelet-insecure-tls"}
    assert not [it for it in told if "authority" in it]


def test_metrics_server_checks_kubelets_and_is_checked_itself() -> None:
    (step,) = _plan("metrics_server", Facts(bundle=BUNDLE), {"metrics_server": {"seconds": 30}})
    values = step.arguments["values"]
    assert not any("insecure" in word for word in values["defaultArgs"])
    assert any(
        word.startswith("--kubelet-certificate-authority=") for word in values["defaultArgs"]
    )
    assert "--metric-resolution=30s" in values["defaultArgs"]
    assert values["apiService"] == {"insecureSkipTLSVerify": False}
    assert values["image"]["tag"] == "v0.9.0"
    assert step.arguments["chart"] == "metrics-server-3.13.0.tgz"


def test_another_option_is_one_step_for_the_changed_value() -> None:
    done = _done(_plan("metrics_server", Facts(bundle=BUNDLE)))
    (step,) = _plan("metrics_server", done, {"metrics_server": {"seconds": 60}})
    assert step.reasons == (
        "release kube-system/metrics-server: the value defaultArgs[4] was changed",
    )


# ---- metallb -------------------------------------------------------------------------------


def test_metallb_is_a_namespace_a_release_and_then_its_addresses() -> None:
    steps = _plan("metallb", Facts(bundle=BUNDLE))
    assert [step.action for step in steps] == ["manifest", "helm", "manifest"]
    pool = steps[2].arguments["objects"][0]
    assert pool["spec"]["addresses"] == ["10.0.0.100-10.0.0.110", "10.0.0.128/28"]
    assert steps[1].arguments["values"]["speaker"]["image"] == {
        "repository": "quay.io/metallb/speaker",
        "tag": "v0.16.1",
    }


def test_other_addresses_change_the_pool_and_nothing_else() -> None:
    done = _done(_plan("metallb", Facts(bundle=BUNDLE)))
    (step,) = _plan("metallb", done, {"metallb": {"addresses": ["10.0.0.7 - 10.0.0.8"]}})
    assert step.arguments["objects"][0]["spec"]["addresses"] == ["10.0.0.7-10.0.0.8"]
    assert step.reasons == ("IPAddressPool/metallb-system/site: spec.addresses was changed",)


def test_addresses_that_a_machine_has_are_told_before() -> None:
    site = _site({"metallb": {"addresses": ["10.0.0.0/30", "10.0.0.9-10.0.0.9"]}})
    found = metallb.PART.unmet(site, Facts(bundle=BUNDLE))
    assert found == ["metallb: 10.0.0.0/30 holds the address of h1, 10.0.0.1"]


def test_only_the_control_plane_is_asked_for_pools() -> None:
    assert metallb.PART.probes(_site(APPS), "h2") == ()
    (probe,) = metallb.PART.probes(_site({}), "h1")  # some may be left of what was taken out
    assert probe.name == "objects:metallb"
    assert "ipaddresspools.metallb.io" in probe.argv[4]


@pytest.mark.parametrize("text", ["10.0.0.9-10.0.0.1", "10.0.0.1", "10.0.0.1/28", "a-b", ""])
def test_addresses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        metallb.ends(text)
