"""A cluster on hosts of a lab, made and changed as by `mlstead site apply`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machines.lab.host import Host

from mlstead.clients.ssh import Ssh
from mlstead.plan import KUBECTL, LAPTOP, Facts, Step
from mlstead.site import bundle as bundles
from mlstead.site.applying import Doing, run_steps
from mlstead.site.facts import gather
from mlstead.site.options import check_options
from mlstead.site.planning import plan_site
from mlstead.spec.load import load_site
from mlstead.spec.site import Site

PATIENCE = 120.0  # seconds for something to come about in the cluster
SITE = """\
mlstead: 1
kind: site
name: lab
ssh: {{user: {user}, key: {key}}}
machines:
{machines}
bundle: {bundle}
kubernetes:
  kubelet:
    imageGCHighThresholdPercent: 100
    imageGCLowThresholdPercent: 99
    evictionHard: {{memory.available: 100Mi, nodefs.available: 2%, imagefs.available: 2%}}
apps:
{apps}
"""


@dataclass
class Cluster:
    """A site on some hosts; the first is its control plane.

    Attributes:
        folder: of the site file and of known host keys; bundle: what is installed from.
        keys: the lab's folder, which has its key and its hosts' keys.
        apps: the lines of the site file that say what is installed in it.
    """

    hosts: Sequence[Host]
    folder: Path
    bundle: Path
    keys: Path
    apps: str
    secrets: dict[str, str] = field(default_factory=dict)

    def site(self, apps: str | None = None) -> Site:
        """Read the site as a file says it, with other apps if some are given."""
        head, *others = self.hosts
        rows = [f"{head.name}: {{address: {head.address}, roles: [control-plane, worker]}}"]
        rows += [f"{it.name}: {{address: {it.address}, roles: [worker]}}" for it in others]
        path = self.folder / "site.yaml"
        text = SITE.format(
            user=head.user,
            key=self.keys / "id",
            machines="\n".join(f"  {row}" for row in rows),
            bundle=self.bundle,
            apps="\n".join(f"  {row}" for row in (apps or self.apps).splitlines()),
        )
        path.write_text(text, encoding="utf-8")
        loaded = load_site(path)
        check_options(loaded)
        return loaded.site

    def ssh(self) -> Ssh:
        """Open the way to the hosts, whose keys the lab knows."""
        lines = (self.keys / "known_hosts").read_text(encoding="utf-8").splitlines()
        addresses = {host.name: host.address for host in self.hosts}
        known = [line.split(" ", 1) for line in lines]
        rows = [f"{addresses[name]} {rest}" for name, rest in known if name in addresses]
        place = self.folder / "ssh"
        place.mkdir(exist_ok=True)
        (place / "known_hosts").write_text("\n".join(rows) + "\n", encoding="utf-8")
        return Ssh(place)

    def facts(self, ssh: Ssh, site: Site) -> Facts:
        """Look at all hosts."""
        found = gather(site, ssh, bundles.load(self.bundle))
        assert not found.problems, found.problems
        return found.facts

    def plan(self, apps: str | None = None) -> list[Step]:
        """Say what an apply would do."""
        site = self.site(apps)
        with self.ssh() as ssh:
            return self._steps(ssh, site)

    def apply(self, apps: str | None = None) -> list[Step]:
        """Do all that is to be done; give what was done."""
        site = self.site(apps)
        with self.ssh() as ssh:
            steps = self._steps(ssh, site)
            run_steps(Doing(site, ssh, str(self.bundle), self._secret, lambda event: None), steps)
        return steps

    def _steps(self, ssh: Ssh, site: Site) -> list[Step]:
        """Plan all but what changes on this machine."""
        return [it for it in plan_site(site, self.facts(ssh, site)) if it.target != LAPTOP]

    def _secret(self, name: str) -> str:
        return self.secrets.setdefault(name, os.urandom(12).hex())

    # ---- in the cluster

    def run(self, *argv: str, input: str = "", check: bool = True) -> str:
        """Run a program on the control plane; give what it printed."""
        program = f"/usr/local/bin/{argv[0]}"
        return self.hosts[0].run([program, *argv[1:]], input, check=check, seconds=600).stdout

    def kubectl(self, *words: str, input: str = "", check: bool = True) -> str:
        """Run kubectl as the cluster's admin."""
        return self.run(*KUBECTL, *words, input=input, check=check)

    def put(self, *objects: dict[str, Any]) -> None:
        """Make or change objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", input=json.dumps(items))

    def get(self, *words: str) -> Any:
        """Give objects as data."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def inside(self, namespace: str, pod: str, script: str) -> str:
        """Run a script in a pod."""
        return self.kubectl("-n", namespace, "exec", pod, "--", "sh", "-c", script, check=False)


def wait_for(what: str, happened: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until something gives what counts as true; give that."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found
