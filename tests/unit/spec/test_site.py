"""What a site says of its machines, and each rule beyond the types of its fields by itself."""

from pathlib import Path

import pytest

from mlstead.errors import SpecError
from mlstead.spec.load import load_site
from mlstead.spec.site import Site

HEAD = "mlstead: 1\nkind: site\nname: s\n"
ONE = "machines: {h: {address: 10.0.0.1, roles: [control-plane]}}\n"
GOOD = Path(__file__).parent / "good" / "site"


@pytest.fixture
def lab() -> Site:
    return load_site(GOOD / "lab.yaml").site


def said(folder: Path, text: str) -> str:
    path = folder / "s.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_site(path)
    return str(caught.value).replace(str(path), "s")


def machines(*rows: str) -> str:
    return "machines:\n" + "".join(f"  {row}\n" for row in rows)


# ---- what it says of its machines


def test_machines_are_told_by_role_in_the_order_of_the_file(lab: Site) -> None:
    assert lab.with_role("control-plane") == ("head",)
    assert lab.with_role("worker") == ("head", "w1", "w2")
    assert lab.with_role("control-plane", "registry") == ("head",)
    assert lab.workers == ("w1", "w2")
    assert lab.nodes == ("head", "w1", "w2")


def test_a_registry_alone_is_no_node_and_control_planes_come_first() -> None:
    site = load_site(GOOD / "registry-apart.yaml").site
    assert site.nodes == ("n1", "n2")
    assert list(site.machines) == ["images", "n1", "n2"]


def test_a_machine_has_the_login_key_and_port_of_the_site_or_its_own(lab: Site) -> None:
    def login(name: str) -> tuple[str, str, int]:
        return lab.user_of(name), lab.key_of(name), lab.port_of(name)

    assert login("head") == login("w1") == ("ann", "~/.ssh/id_lab", 2222)
    assert login("w2") == ("root", "/root/key", 22)


def test_login_and_key_are_left_to_ssh_where_nothing_is_said() -> None:
    site = load_site(GOOD / "one-machine.yaml").site
    assert (site.user_of("box"), site.key_of("box"), site.port_of("box")) == ("", "", 22)


def test_a_site_cannot_be_changed(lab: Site) -> None:
    with pytest.raises(TypeError):
        lab.machines["new"] = lab.machines["w1"]  # type: ignore[index]
    with pytest.raises(TypeError):
        lab.kubernetes.kubelet["evictionHard"]["a"] = 1


# ---- each rule


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            machines("a: {address: 10.0.0.1, roles: [worker]}"),
            "s:4:1: machines: exactly one machine must have the role control-plane; found none",
        ),
        (
            "machines: {}\n",
            "s:4:11: machines: is required; or kubernetes: {distribution: existing, …}",
        ),
        (
            machines("a-: {address: 10.0.0.1, roles: [control-plane]}"),
            "s:5:3: machines.a-: a host name cannot end with -",
        ),
        (
            machines("localhost: {address: 10.0.0.1, roles: [control-plane]}"),
            "s:5:3: machines.localhost: every machine calls itself localhost; choose another name",
        ),
        (
            machines("a: {address: 10.0.0.1, roles: [control-plane, control-plane]}"),
            "s:5:49: machines.a.roles[1]: control-plane stands here twice",
        ),
        (
            ONE + "kubernetes: {pods: 10.0.0.0/21}\n",
            "s:5:20: kubernetes.pods: 10.0.0.0/21 is too small: at most /20\n"
            "s:5:20: kubernetes.pods: 10.0.0.0/21 holds the address of h, 10.0.0.1; "
            "choose another network",
        ),
        (
            ONE + "kubernetes: {services: 10.240.0.0/12}\n",
            "s:5:24: kubernetes.services: 10.240.0.0/12 overlaps pods, 10.244.0.0/16",
        ),
        (
            ONE + "kubernetes: {kubeconfig: x}\n",
            "s:5:14: kubernetes.kubeconfig: is only for distribution: existing",
        ),
        (
            "kubernetes: {distribution: existing}\n",
            "s:4:13: kubernetes.kubeconfig: is required for an existing cluster",
        ),
        (
            ONE + "kubernetes: {distribution: existing, kubeconfig: x}\n",
            "s:4:1: machines: an existing cluster has no machines here; "
            "leave them out, or distribution: kubeadm",
        ),
    ],
)
def test_a_site_that_cannot_be_is_refused(tmp_path: Path, text: str, wanted: str) -> None:
    assert said(tmp_path, text) == wanted


@pytest.mark.parametrize("address", ["127.1.2.3", "0.0.0.0", "239.1.1.1", "255.255.255.255"])
def test_an_address_that_no_machine_can_have_is_refused(tmp_path: Path, address: str) -> None:
    text = machines(f"a: {{address: {address}, roles: [control-plane]}}")
    wanted = f"s:5:16: machines.a.address: {address} cannot be reached from other machines"
    assert said(tmp_path, text) == wanted


@pytest.mark.parametrize(
    "address", ["10.0.0.01", "10.0.0.1/24", "host", "::1", "1.2.3", "' 1.2.3.4'"]
)
def test_what_is_no_address_is_refused(tmp_path: Path, address: str) -> None:
    text = machines(f"a: {{address: '{address.strip(chr(39))}', roles: [control-plane]}}")
    assert "machines.a.address: must be an IPv4 address" in said(tmp_path, text)


@pytest.mark.parametrize(
    "path", ["/", "relative", "/a/../b", "/a b", "/a/$(id)", "/a/-x;y", "/a//b", "/a/", "/a\\nb"]
)
def test_a_folder_that_a_shell_could_misread_is_refused(tmp_path: Path, path: str) -> None:
    text = ONE + f'registry: {{path: "{path}"}}\n'
    assert "registry.path:" in said(tmp_path, text)


@pytest.mark.parametrize("login", ["-oProxyCommand=x", "a b", "a;b", "$(id)", "a\\n", "ä"])
def test_a_login_that_is_more_than_a_name_is_refused(tmp_path: Path, login: str) -> None:
    assert "ssh.user:" in said(tmp_path, ONE + f'ssh: {{user: "{login}"}}\n')


def test_an_existing_cluster_is_not_asked_for_machines_or_networks(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        HEAD + "kubernetes: {distribution: existing, kubeconfig: x, pods: 10.0.0.0/30}\n"
    )
    assert load_site(path).site.nodes == ()


@pytest.mark.parametrize(
    ("role", "port", "owner"),
    [
        ("worker", 22, "sshd"),
        ("control-plane", 6443, "the API server"),
        ("control-plane", 2379, "etcd"),
        ("worker", 10250, "the kubelet"),
        ("worker", 6443, ""),
        ("control-plane", 5000, ""),
    ],
)
def test_a_port_of_the_registry_that_its_machine_needs_is_refused(
    tmp_path: Path, role: str, port: int, owner: str
) -> None:
    rows = [
        "a: {address: 10.0.0.1, roles: [control-plane]}",
        "b: {address: 10.0.0.2, roles: [worker]}",
    ]
    text = machines(*(row.replace(f"[{role}]", f"[{role}, registry]") for row in rows))
    text += f"registry: {{port: {port}}}\n"
    if owner:
        assert f"{port} is the port of {owner} on" in said(tmp_path, text)
    else:
        (tmp_path / "s.yaml").write_text(HEAD + text, encoding="utf-8")
        load_site(tmp_path / "s.yaml")


@pytest.mark.parametrize("field", ["apiVersion", "kind"])
def test_what_makes_the_kubelets_settings_readable_is_not_to_be_chosen(
    tmp_path: Path, field: str
) -> None:
    text = ONE + f"kubernetes: {{kubelet: {{{field}: x}}}}\n"
    assert f"kubernetes.kubelet.{field}: cannot be chosen" in said(tmp_path, text)
