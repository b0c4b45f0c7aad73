"""How a cluster is reached and as whom, by the kubeconfig: certificates, tokens, programs."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from mlstead.clients import kubeconfig
from mlstead.errors import NotFoundError, UserError
from mlstead.spec.compose import compose
from mlstead.spec.load import read_source
from mlstead.spec.nodes import plain

_PROGRAM_SECONDS: Final = 60.0
_SPARE: Final = 60.0  # seconds before its end from which a token is not used any more


@dataclass(frozen=True, slots=True)
class Login:
    """What a context of a kubeconfig says, read and checked.

    Attributes:
        server: the address of the API server; namespace: the context's, "" if it names none.
        name: the context's name.
        user: its part of the kubeconfig, which may hold secrets.
    """

    server: str
    namespace: str
    name: str
    folder: Path
    cluster: Mapping[str, Any] = field(repr=False)
    user: Mapping[str, Any] = field(repr=False)


def read(path: Path | None = None, context: str = "") -> Login:
    """Read a kubeconfig: the user's own, and its current context, if nothing else is said.

    Raises:
        NotFoundError: there is no such file or context.
        SpecError: the file is damaged.
        UserError: the context leads to nothing.
    """
    path = path or kubeconfig.find()
    known = kubeconfig.contexts(path)
    if not known:
        raise NotFoundError(f"{path}: no contexts", hint="KUBECONFIG, or --kubeconfig of a context")
    chosen = context or next((it.name for it in known if it.current), "")
    if not chosen:
        raise NotFoundError(
            f"{path} has no current context", hint="kubectl config use-context NAME"
        )
    content: dict[str, Any] = plain(compose(read_source(path)))
    found = {it["name"]: it["context"] for it in content["contexts"]}.get(chosen)
    if found is None:
        names = ", ".join(it.name for it in known)
        raise NotFoundError(f"no context {chosen} in {path}", hint=f"known: {names}")
    clusters = {it["name"]: it["cluster"] for it in content.get("clusters") or []}
    users = {it["name"]: it["user"] for it in content.get("users") or []}
    cluster = clusters.get(found.get("cluster"))
    if not cluster or not cluster.get("server"):
        raise UserError(f"context {chosen} in {path} leads to no cluster")
    return Login(
        str(cluster["server"]).rstrip("/"),
        str(found.get("namespace") or ""),
        chosen,
        path.parent,
        cluster,
        users.get(found.get("user")) or {},
    )


class Credentials:
    """Gives what a connection needs; a program that makes tokens is asked again in time."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._made: dict[str, Any] = {}
        self._until = 0.0
        self._asking = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """Make the TLS settings: whom we trust, and our own certificate.

        Raises:
            UserError: a certificate is not there, or is none.
        """
        cluster = self._login.cluster
        authority = self._text(cluster, "certificate-authority")
        try:
            context = ssl.create_default_context(cadata=authority or None)
        except (ssl.SSLError, ValueError, TypeError) as error:
            raise UserError(f"{self._login.name}: its certificate authority is damaged") from error
        if cluster.get("insecure-skip-tls-verify"):
            raise UserError(
                f"{self._login.name}: insecure-skip-tls-verify is not supported",
                hint="give the cluster's certificate-authority-data",
            )
        user = {**self._login.user, **self._of_program()}
        certificate, key = self._text(user, "client-certificate"), self._text(user, "client-key")
        if certificate and key:
            _load(context, certificate, key, self._login.name)
        return context

    def headers(self) -> dict[str, str]:
        """Give the header that says who we are, if that is done by a token.

        Raises:
            UserError: the file or the program that has the token is not there, or fails.
        """
        user = self._login.user
        named = user.get("tokenFile")  # it may change, so it comes before one that is written down
        token = self._file(named).strip() if named else str(user.get("token") or "")
        if not token:
            token = str(self._of_program().get("token") or "")
        if token:
            return {"Authorization": f"Bearer {token}"}
        if user.get("username"):
            raise UserError(f"{self._login.name}: a password login is not supported")
        return {}

    def _text(self, part: Mapping[str, Any], name: str) -> str:
        """Give a certificate or key: written into the kubeconfig, or in a file that it names."""
        if data := part.get(f"{name}-data"):
            try:
                return base64.b64decode("".join(str(data).split()), validate=True).decode()
            except ValueError as error:
                raise UserError(f"{self._login.name}: {name}-data is damaged") from error
        return self._file(part[name]) if part.get(name) else ""

    def _file(self, name: Any) -> str:
        path = self._login.folder / str(name)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self._login.name}: cannot read {path}: {error}") from error

    def _of_program(self) -> Mapping[str, Any]:
        asked = self._login.user.get("exec")
        if not asked:
            return {}
        with self._asking:  # it may ask the person something: once, for all threads
            if not self._made or time.time() > self._until - _SPARE:
                self._made, self._until = self._read_answer(asked, self._call(asked))
            return self._made

    def _call(self, asked: Mapping[str, Any]) -> subprocess.CompletedProcess[bytes]:
        """Ask the program of the kubeconfig, as kubectl does (client.authentication.k8s.io)."""
        name = str(asked.get("command"))
        program = str(self._login.folder.absolute() / name) if "/" in name else name
        added = {str(it["name"]): str(it["value"]) for it in asked.get("env") or []}
        info = {
            "apiVersion": asked.get("apiVersion"),
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        try:
            return subprocess.run(
                [program, *map(str, asked.get("args") or [])],
                env={**os.environ, **added, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROGRAM_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            hint = str(asked.get("installHint") or "install it").strip().splitlines()[0]
            raise UserError(f"{self._login.name}: no program {name}", hint=hint) from error
        except OSError as error:
            said = f"{self._login.name}: cannot run {name}: {error.strerror}"
            raise UserError(said) from error
        except subprocess.TimeoutExpired:
            raise UserError(  # its arguments may hold secrets
                f"{self._login.name}: {name} does not end", hint="log in with it by hand"
            ) from None

    def _read_answer(
        self, asked: Mapping[str, Any], done: subprocess.CompletedProcess[bytes]
    ) -> tuple[dict[str, Any], float]:
        """Give what the program made, and until when it is good."""
        try:
            status = json.loads(done.stdout)["status"]
            made = {
                "token": status.get("token"),
                "client-certificate-data": _encoded(status.get("clientCertificateData")),
                "client-key-data": _encoded(status.get("clientKeyData")),
            }
            until = status.get("expirationTimestamp")
            if done.returncode == 0 and any(made.values()):
                return made, _seconds(until) if until else float("inf")
        except (ValueError, LookupError, TypeError, AttributeError):
            pass  # what it said may hold a secret
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(
            f"{self._login.name}: {asked.get('command')} gave no credentials: {' '.join(said)}",
            hint="log in with it again",
        )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _encoded(text: str | None) -> str | None:
    return base64.b64encode(text.encode()).decode() if text else None


def _load(context: ssl.SSLContext, certificate: str, key: str, name: str) -> None:
    """Load our certificate; OpenSSL reads it from a file only, ours for that moment."""
    with tempfile.NamedTemporaryFile("w", dir=_memory(), suffix=".pem") as file:
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        try:
            context.load_cert_chain(file.name, password="")  # else OpenSSL asks on the terminal
        except ssl.SSLError as error:
            raise UserError(f"{name}: its client certificate is damaged") from error


def _memory() -> str | None:
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"
    return folder if os.access(folder, os.W_OK) else None
