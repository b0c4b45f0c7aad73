"""Which certificates of kubelets are approved on the control plane, and which are not."""

from __future__ import annotations

import base64
import importlib.util
import ipaddress
import json
from importlib.machinery import SourceFileLoader
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlstead.site.components import ansible_folder

FILE = ansible_folder() / "roles/kubelet_certificates/files/approve-kubelets"
NODES = {"h1": "10.0.0.1", "h2": "10.0.0.2"}
GOOD = ("DNS:h1", "IP:10.0.0.1")


@pytest.fixture
def program() -> Any:
    loader = SourceFileLoader("approve_kubelets", str(FILE))
    spec = importlib.util.spec_from_loader("approve_kubelets", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _request(names: tuple[str, ...], node: str = "h1", group: str = "system:nodes") -> str:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    kinds: dict[str, Any] = {
        "DNS": x509.DNSName,
        "URI": x509.UniformResourceIdentifier,
        "MAIL": x509.RFC822Name,
    }
    found = []
    for name in names:
        kind, _, value = name.partition(":")
        if kind == "IP":
            found.append(x509.IPAddress(ipaddress.ip_address(value)))
        else:
            found.append(kinds[kind](value))
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if found:
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def _spec(request: str, **more: Any) -> dict[str, Any]:
    return {
        "signerName": "kubernetes.io/kubelet-serving",
        "username": "system:node:h1",
        "groups": ["system:nodes", "system:authenticated"],
        "usages": ["digital signature", "server auth"],
        "request": request,
        **more,
    }


@pytest.mark.parametrize("names", [GOOD, ("DNS:h1",), ("IP:10.0.0.1",)])
def test_a_node_may_have_its_own_name_and_address(program: Any, names: tuple[str, ...]) -> None:
    assert program.refusal(_spec(_request(names)), NODES) == ""


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (_spec(_request((*GOOD, "IP:10.0.0.2"))), "h1 asks for IP Address:10.0.0.2"),
        (_spec(_request((*GOOD, "DNS:kubernetes"))), "h1 asks for DNS:kubernetes"),
        (_spec(_request((*GOOD, "URI:spiffe://x"))), "h1 asks for URI:spiffe://x"),
        (_spec(_request((*GOOD, "MAIL:a@b"))), "h1 asks for email:a@b"),
        (_spec(_request(("DNS:h2", "IP:10.0.0.2"))), "h1 asks for DNS:h2, IP Address:10.0.0.2"),
        (_spec(_request(())), "h1 asks for no name"),
        (_spec(_request(GOOD, node="h2")), "h1 asks for the subject"),
        (_spec(_request(GOOD, group="system:masters")), "h1 asks for the subject"),
        (_spec(_request(GOOD), username="system:node:h3"), "system:node:h3 is no node"),
        (_spec(_request(GOOD), username="kubernetes-admin"), "kubernetes-admin is no node"),
        (_spec(_request(GOOD), username=""), "nobody is no node"),
        (_spec(_request(GOOD), groups=["system:authenticated"]), "is no node"),
        (_spec(_request(GOOD), usages=["server auth", "client auth"]), "more than to serve"),
        (_spec(base64.b64encode(b"no request").decode()), "no request that can be read"),
    ],
)
def test_anything_else_is_refused(program: Any, spec: dict[str, Any], reason: str) -> None:
    assert reason in program.refusal(spec, NODES)


def _cluster(program: Any, requests: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []

    def kubectl(*words: str) -> str:
        calls.append(words)
        return json.dumps({"items": requests}) if words[0] == "get" else ""

    program.kubectl = kubectl
    return calls


def test_only_requests_that_wait_and_are_of_kubelets_are_looked_at(program: Any) -> None:
    good = _request(GOOD)
    names = {"waits": {}, "done": {"conditions": [{"type": "Approved"}]}}
    requests = [
        {"metadata": {"name": name}, "spec": _spec(good), "status": status}
        for name, status in names.items()
    ]
    other = _spec(good, signerName="kubernetes.io/kube-apiserver-client-kubelet")
    requests.append({"metadata": {"name": "other"}, "spec": other, "status": {}})
    calls = _cluster(program, requests)
    assert program.approve(NODES) == ["waits"]
    assert calls[1:] == [("certificate", "approve", "waits")]


def test_a_cluster_that_does_not_answer_is_asked_again_later(program: Any) -> None:
    program.kubectl = lambda *words: None
    assert program.approve(NODES) is None
    assert program.silent(NODES) == ["the API server"]
