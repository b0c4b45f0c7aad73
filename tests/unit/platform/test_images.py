"""Which login a registry gets: the given one, or that of a site that was applied from here."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlstead.errors import NotFoundError, UserError
from mlstead.platform.images import Images, Login
from mlstead.site.secrets import SiteSecrets
from mlstead.site.session import Session
from mlstead.spec.load import load_site

SITE = """\
mlstead: 1
kind: site
name: lab
machines: {h1: {address: 10.1.1.1, roles: [control-plane, registry]}}
"""
ADDRESS = "10.1.1.1:5000"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteSecrets:
    """Give the secrets of a site that was applied."""
    monkeypatch.setenv("MLSTEAD_PASSPHRASE", "correct horse battery staple")
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    loaded = load_site(tmp_path / "site.yaml")
    with Session(tmp_path, loaded) as session:
        session.settle()
        session.secrets.value("authority.key")
        session.secrets.value("registry.password")
        return session.secrets


def test_the_registry_of_a_site_has_the_sites_login(tmp_path: Path, secrets: SiteSecrets) -> None:
    found = Images(tmp_path).site_login(ADDRESS)
    password, authority = secrets.value("registry.password"), secrets.value("authority.crt")
    assert found == Login(ADDRESS, "mlstead", password, authority)
    assert "KEY" not in authority
    assert Images(tmp_path).site_login("10.1.1.2:5000") is None


def test_a_site_whose_secrets_are_gone_is_told(tmp_path: Path, secrets: SiteSecrets) -> None:
    secrets.destroy()
    with pytest.raises(NotFoundError):
        Images(tmp_path).site_login(ADDRESS)


def test_a_home_without_sites_or_with_a_damaged_one_knows_none(tmp_path: Path) -> None:
    assert Images(tmp_path).site_login(ADDRESS) is None
    for name, text in (("a", "["), ("b", "[]"), ("c", "{}")):
        (tmp_path / "sites" / name).mkdir(parents=True)
        (tmp_path / "sites" / name / "state.json").write_text(text, encoding="utf-8")
    assert Images(tmp_path).site_login(ADDRESS) is None


def test_what_was_given_goes_before_what_is_known(tmp_path: Path, secrets: SiteSecrets) -> None:
    images = Images(tmp_path)
    authority = secrets.value("authority.crt")
    given = Login(ADDRESS, "me", "pw", "theirs")
    assert images.complete(given, None) == given
    assert images.complete(Login(ADDRESS, "me", "pw"), None) == Login(
        ADDRESS, "me", "pw", authority
    )
    assert images.complete(Login(ADDRESS), None) == images.site_login(ADDRESS)
    plain = Login("h:1", plain=True)
    assert images.complete(plain, None) == plain
    outside = Login("h:1", "me", "pw")
    assert images.complete(outside, None) == outside


def test_no_login_at_all_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no password for h:1") as caught:
        Images(tmp_path).load(tmp_path, Login("h:1"), None, lambda line: None)
    assert "MLSTEAD_REGISTRY_PASSWORD" in caught.value.hint
