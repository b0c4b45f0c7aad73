"""Names of images, as people write them."""

from __future__ import annotations

import pytest

from mlstead.clients.image_name import ImageName, parse_image
from mlstead.errors import UserError

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "address", "repository", "reference"),
    [
        ("python", "registry-1.docker.io", "library/python", "latest"),
        ("team/app:v1", "registry-1.docker.io", "team/app", "v1"),
        ("docker.io/local/busybox:1", "registry-1.docker.io", "local/busybox", "1"),
        ("docker.io/python:3.11-slim", "registry-1.docker.io", "library/python", "3.11-slim"),
        ("10.0.0.5:5000/a/b/c:V_1", "10.0.0.5:5000", "a/b/c", "V_1"),
        ("localhost/app", "localhost", "app", "latest"),
        ("[fd00::5]:5000/app:1", "[fd00::5]:5000", "app", "1"),
        (f"ghcr.io/x/y@{DIGEST}", "ghcr.io", "x/y", DIGEST),
        (f"ghcr.io/x/y:tag@{DIGEST}", "ghcr.io", "x/y", DIGEST),
        ("registry.k8s.io/metrics-server/a__b.c-d:v0.9.0", "registry.k8s.io",
         "metrics-server/a__b.c-d", "v0.9.0"),
    ],
)  # fmt: skip
def test_a_name_is_read(text: str, address: str, repository: str, reference: str) -> None:
    assert parse_image(text) == ImageName(address, repository, reference)


def test_a_name_is_written_with_its_digest_or_tag() -> None:
    assert str(parse_image(f"h:1/a@{DIGEST}")) == f"h:1/a@{DIGEST}"
    assert str(parse_image("h:1/a:b")) == "h:1/a:b"


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "@", "Upper", "h:1/", "h:1/a:", "a@sha256:12", "a@md5:" + "0" * 64, "a b", "a//b",
        "../../etc", "h:1/../x", "h:1/a?x=1", "h:1/a#b", "user:pw@h:1/a", "http://h/a",
        "h:99999999/a",
        "h:1/a:" + "t" * 129, "a\n", f"h:1/a@{DIGEST}\n", f"h:1/a@{DIGEST}@{DIGEST}",
    ],
)  # fmt: skip
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_image(text)
