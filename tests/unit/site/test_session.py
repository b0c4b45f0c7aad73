"""What is kept of a site under its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlstead.errors import ConflictError
from mlstead.site.session import Session
from mlstead.spec.load import load_site
from mlstead.spec.loaded import LoadedSite

SITE = """\
mlstead: 1
kind: site
name: {name}
machines: {{h1: {{address: {address}, roles: [control-plane]}}}}
"""


def site(folder: Path, address: str, name: str = "lab") -> LoadedSite:
    file = folder / "site.yaml"
    file.write_text(SITE.format(name=name, address=address), encoding="utf-8")
    return load_site(file)


def test_another_site_of_the_same_name_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = Session(tmp_path, site(tmp_path, "10.1.1.1"))
    Session(tmp_path, site(tmp_path, "10.1.1.2"))  # nothing was done to either
    first.settle()
    Session(tmp_path, site(tmp_path, "10.1.1.1"))
    Session(tmp_path, site(tmp_path, "10.1.1.2", "other"))
    with pytest.raises(ConflictError, match=r"another site is called lab: .*10\.1\.1\.1") as caught:
        Session(tmp_path, site(tmp_path, "10.1.1.2"))
    assert str(tmp_path / "sites/lab") in caught.value.hint
    first.forget()
    Session(tmp_path, site(tmp_path, "10.1.1.2"))


def test_a_bundle_that_was_given_is_remembered(tmp_path: Path) -> None:
    loaded = site(tmp_path, "10.1.1.1")
    Session(tmp_path, loaded, bundle=str(tmp_path)).settle()
    assert Session(tmp_path, loaded).state("bundle") == str(tmp_path)
