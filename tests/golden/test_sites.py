"""A site file and recorded facts give exactly these steps and ports, and nothing is touched.

``MLSTEAD_TEST_WRITE_GOLDEN=1`` writes the files anew; read the difference before you keep it.
Hashes of inputs and roles are left out: they change with every role.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mlstead.plan import CLUSTER, Bundle, BundleFile, Facts, HostFacts, PartFacts, Step
from mlstead.site.applying import resolved
from mlstead.site.components import charts_of, role_digests
from mlstead.site.planning import groups, plan_site, ports
from mlstead.spec.base import freeze
from mlstead.spec.load import load_site
from mlstead.spec.site import Site
from mlstead.testing.site_values import after

FOLDER = Path(__file__).parent / "sites"
CASES = sorted(path.name.removesuffix(".yaml") for path in FOLDER.glob("*.yaml"))


def bundle() -> Bundle:
    """Read what was recorded of a bundle."""
    data = json.loads((FOLDER / "bundle.json").read_text(encoding="utf-8"))
    files = tuple(BundleFile(**it) for it in data["files"])
    return Bundle(data["folder"], data["versions"], files, data["links"], tuple(data["images"]))


def facts(name: str, site: Site) -> Facts:
    """Read what was recorded of the machines of a site, some of whose parts are done."""
    data = json.loads((FOLDER / f"{name}.facts.json").read_text(encoding="utf-8"))
    hosts = {key: HostFacts(system) for key, system in data["systems"].items()}
    found = Facts(hosts=hosts, bundle=bundle(), roles=role_digests(), charts=charts_of(site))
    done = [step for step in plan_site(site, found) if step.key in data["done"]]
    found = after(found, done)
    if "had" in data:  # apps that were installed, and may have been taken out of the file
        had = site.model_copy(update={"apps": freeze(data["had"])})
        steps = plan_site(had, replace(found, charts=charts_of(had)))
        found = after(found, [step for step in steps if step.target == CLUSTER])
    for machine, parts in data["drift"].items():
        host = found.hosts[machine]
        changed = {
            part: PartFacts(host.parts[part].inputs, tuple(words)) for part, words in parts.items()
        }
        host = replace(host, parts={**host.parts, **changed})
        found = replace(found, hosts={**found.hosts, machine: host})
    return found


def written(step: Step) -> dict[str, Any]:
    arguments = resolved(step.arguments, lambda name: f"<secret {name}>")
    arguments.pop("mlstead_inputs", None)
    return {
        "step": step.key,
        "action": step.action,
        "tasks": step.tasks,
        "title": step.title,
        "reasons": list(step.reasons),
        "arguments": arguments,
    }


def plan(name: str) -> Mapping[str, Any]:
    site = load_site(FOLDER / f"{name}.yaml").site
    steps = plan_site(site, facts(name, site))
    return {
        "groups": [[step.key for step in group] for group in groups(steps)],
        "steps": [written(step) for step in steps],
        "ports": [asdict(port) for port in ports(site)],
    }


@pytest.mark.parametrize("name", CASES)
def test_a_site_file_and_facts_give_exactly_these_steps(name: str) -> None:
    text = json.dumps(plan(name), indent=1, sort_keys=True) + "\n"
    file = FOLDER / f"{name}.plan.json"
    if os.environ.get("MLSTEAD_TEST_WRITE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_plan_belongs_to_a_site() -> None:
    assert CASES == ["changed", "fresh", "withdrawn"]
    assert {path.name for path in FOLDER.glob("*.plan.json")} == {
        f"{name}.plan.json" for name in CASES
    }
