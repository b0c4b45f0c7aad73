"""Python on every machine, which Ansible's modules need."""

from mlstead.plan import Component
from mlstead.spec.site import Site


def _machines(site: Site) -> list[str]:
    return list(site.machines)


PART = Component("Install Python", "python", machines=_machines)
