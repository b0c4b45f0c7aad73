"""A first site file is one that loads; machines come and go without touching the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlstead.errors import ConflictError, NotFoundError, SpecError, UserError
from mlstead.site.writing import add_machine, draft, names_for, remove_machine
from mlstead.spec.load import parse_site

FILE = """\
# our lab
mlstead: 1
kind: site
name: lab

machines:
  # the big one
  h1: {address: 10.0.0.1, roles: [control-plane, registry]}   # in the cellar
  h2:
    address: "10.0.0.2"
    roles:
      - worker

# a quiet network
kubernetes: {pods:  10.9.0.0/16}
"""


def test_the_first_address_is_the_head_and_the_others_are_workers() -> None:
    assert names_for(["10.0.0.1", "10.0.0.2", "10.0.0.9"]) == (
        ("head", "10.0.0.1", ("control-plane", "registry")),
        ("w1", "10.0.0.2", ("worker",)),
        ("w2", "10.0.0.9", ("worker",)),
    )


def test_a_single_machine_does_everything() -> None:
    assert names_for(["10.0.0.1"]) == (
        ("head", "10.0.0.1", ("control-plane", "registry", "worker")),
    )


@pytest.mark.parametrize("addresses", [[], ["10.0.0.1", "10.0.0.1"], ["h1"], ["10.0.0.300"]])
def test_addresses_that_cannot_be_are_refused(addresses: list[str]) -> None:
    with pytest.raises(UserError):
        names_for(addresses)


@pytest.mark.parametrize("user", ["", "admin"])
@pytest.mark.parametrize("key", ["", "~/.ssh/id_ed25519", "/a b/: #k"])
def test_a_draft_is_a_site_file(user: str, key: str) -> None:
    site = parse_site(draft("lab", names_for(["10.0.0.1", "10.0.0.2"]), user, key))
    assert (site.name, site.ssh.user or "", site.ssh.key) == ("lab", user, key)
    assert site.with_role("control-plane") == ("head",)
    assert site.machines["w1"].address == "10.0.0.2"


@pytest.mark.parametrize(
    ("name", "machines", "user"),
    [
        ("Lab", names_for(["10.0.0.1"]), ""),
        ("lab", [("a", "10.0.0.1", ["control-plane"]), ("a", "10.0.0.2", ["worker"])], ""),
        ("lab", [("a", "10.0.0.1", ["control-plane"]), ("b", "10.0.0.1", ["worker"])], ""),
        ("lab", [("a", "10.0.0.1", ["control-plan"])], ""),
        ("lab", [("a", "10.0.0.1", [])], ""),
        ("lab", [("a", "10.0.0.1", ["worker", "worker"])], ""),
        ("lab", [("a", "10.0.0.1", ["worker"])], ""),
        ("lab", [("a-", "10.0.0.1", ["control-plane"])], ""),
        ("lab", names_for(["10.0.0.1"]), "a; reboot"),
        ("lab", names_for(["10.244.0.1"]), ""),
    ],
)
def test_a_draft_that_would_be_no_site_is_refused(
    name: str, machines: list[tuple[str, str, list[str]]], user: str
) -> None:
    with pytest.raises(UserError):
        draft(name, machines, user)


def test_a_near_role_is_named() -> None:
    with pytest.raises(UserError) as caught:
        draft("lab", [("a", "10.0.0.1", ["workr"])])
    assert "did you mean worker?" in caught.value.hint


def test_a_machine_is_added_after_the_others_and_nothing_else_changes() -> None:
    text = add_machine(FILE, "w3", "10.0.0.3", ["worker"])
    line = "  w3: {address: 10.0.0.3, roles: [worker]}\n"
    assert text == FILE.replace("      - worker\n", "      - worker\n" + line)
    assert remove_machine(text, "w3") == FILE


def test_a_machine_is_removed_and_nothing_else_changes() -> None:
    gone = '  h2:\n    address: "10.0.0.2"\n    roles:\n      - worker\n'
    assert remove_machine(FILE, "h2") == FILE.replace(gone, "")


def test_machines_written_in_one_line_are_changed_there() -> None:
    text = (
        "mlstead: 1\nkind: site\nname: a\n"
        "machines: {h: {address: 10.0.0.1, roles: [control-plane]}}  # m\n"
    )
    more = add_machine(text, "w", "10.0.0.2", ["worker", "registry"])
    assert "}, w: {address: 10.0.0.2, roles: [worker, registry]}}  # m\n" in more
    assert remove_machine(more, "w") == text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda: add_machine(FILE, "h2", "10.0.0.3", ["worker"]), ConflictError, "h2 is in"),
        (lambda: add_machine(FILE, "w", "10.0.0.2", ["worker"]), ConflictError, "address of h2"),
        (lambda: add_machine(FILE, "w", "10.0.0.3", ["boss"]), UserError, "no role 'boss'"),
        (lambda: add_machine(FILE, "w", "10.0.0.3", []), UserError, "needs a role"),
        (lambda: add_machine(FILE, "w", "10.0.0", ["worker"]), UserError, "no IPv4 address"),
        (lambda: add_machine(FILE, "W", "10.0.0.3", ["worker"]), UserError, "cannot be a name"),
        (lambda: add_machine(FILE, "w", "10.0.0.3", ["registry"]), UserError, "h1 is the reg"),
        (lambda: add_machine(FILE, "w", "10.0.0.3", ["control-plane"]), UserError, "h1 is the c"),
        (lambda: add_machine(FILE, "w", "10.9.0.3", ["worker"]), SpecError, "holds the address"),
        (lambda: remove_machine(FILE, "h3"), NotFoundError, "no machine h3"),
        (lambda: remove_machine(FILE, "h1"), UserError, "control plane"),
        (lambda: remove_machine("a: [", "h1"), SpecError, "<string>:2:1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    change: Callable[[], str], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        change()
    assert "\n" not in str(caught.value)


def test_an_existing_cluster_has_no_machines_to_change() -> None:
    text = "mlstead: 1\nkind: site\nname: a\nkubernetes: {distribution: existing, kubeconfig: k}\n"
    with pytest.raises(UserError, match="existing cluster"):
        add_machine(text, "w", "10.0.0.3", ["worker"])
