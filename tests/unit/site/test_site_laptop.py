"""What is known of this machine's way into the cluster, read from the kubeconfig itself."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlstead.clients import kubeconfig
from mlstead.clients.kubeconfig import Access
from mlstead.machines.laptop import fingerprint
from mlstead.plan import Facts
from mlstead.site import laptop
from mlstead.site.access import user_name
from mlstead.site.preflight import preflight
from mlstead.spec.load import parse_site

SITE = parse_site(
    "mlstead: 1\nkind: site\nname: lab\n"
    "machines: {h: {address: 10.0.0.1, roles: [control-plane]}}\n"
)
END = datetime.datetime(2040, 1, 2, tzinfo=datetime.UTC)


def certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "me@laptop"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mlstead:admins"),
    ])  # fmt: skip
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(END - datetime.timedelta(days=1)).not_valid_after(END)
    made = builder.public_key(key.public_key()).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config"


def test_without_a_file_there_is_no_context(path: Path) -> None:
    found = laptop.look(SITE, path)["laptop"]
    assert found["context"] is False
    assert "problem" not in found


def test_a_context_is_known_by_server_authority_and_certificate(path: Path) -> None:
    pem = certificate()
    access = Access("https://10.0.0.1:6443", pem, pem, "key")
    kubeconfig.merge(path, "lab", access, entry=laptop.entry(SITE))
    found = dict(laptop.look(SITE, path)["laptop"])
    assert found.pop("now") > 0
    assert found == {
        "file": str(path), "context": True, "ours": True, "server": "https://10.0.0.1:6443",
        "authority": fingerprint(pem), "user": "me@laptop", "groups": ("mlstead:admins",),
        "expires": END.timestamp(),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "nonsense"])
def test_a_certificate_that_cannot_be_read_is_none(path: Path, text: str) -> None:
    access = Access("https://10.0.0.1:6443", "", text, "key")
    kubeconfig.merge(path, "lab", access, entry=laptop.entry(SITE))
    found = laptop.look(SITE, path)["laptop"]
    assert (found["groups"], found["expires"], found["authority"]) == ((), 0.0, "")


def test_a_context_that_leads_to_nothing_is_not_ours(path: Path) -> None:
    path.write_text("contexts:\n- name: lab\n  context: {cluster: gone, user: gone}\n")
    found = laptop.look(SITE, path)["laptop"]
    assert (found["context"], found["ours"]) == (True, False)


def test_a_damaged_file_is_a_fact_with_its_place(path: Path) -> None:
    path.write_text("a: [\n")
    assert str(laptop.look(SITE, path)["laptop"]["problem"]).startswith(f"{path}:2:1: not YAML")


def test_a_damaged_file_stops_an_apply_before_it_begins(path: Path) -> None:
    path.write_text("a: [\n")
    found = preflight(SITE, Facts(laptop=laptop.look(SITE, path)), {})
    [ours] = [it for it in found if it.target == "laptop"]
    assert ours.stops
    assert ours.message.startswith(f"{path}:2:1: not YAML")
    assert "KUBECONFIG" in ours.hint


def test_the_site_is_forgotten_and_others_stay(path: Path) -> None:
    access = Access("https://10.0.0.1:6443", "a", "b", "c")
    kubeconfig.merge(path, "other", access, entry="other")
    kubeconfig.merge(path, "lab", access, entry=laptop.entry(SITE))
    assert laptop.forget(SITE, path)
    assert [it.name for it in kubeconfig.contexts(path)] == ["other"]
    assert not laptop.forget(SITE, path)


def test_who_calls_has_a_name_that_is_only_plain_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "O'Neil; $(id) é")
    monkeypatch.setattr("socket.gethostname", lambda: "lap top.example.org")
    assert user_name() == "O-Neil----id---@lap-top"


def test_who_has_no_name_is_called_by_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert user_name().startswith(f"{os.getuid()}@")
