"""Whole site files: the good ones load and fit the schema; the bad ones say why and where."""

import copy
import functools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from mlstead.errors import NotFoundError, SpecError
from mlstead.spec.compose import compose
from mlstead.spec.fields import names_of
from mlstead.spec.load import load_site, read_source
from mlstead.spec.nodes import plain
from mlstead.spec.schema import json_schema
from mlstead.spec.site import Site

HERE = Path(__file__).parent
GOOD = sorted((HERE / "good" / "site").glob("*.yaml"))
MISTAKES = sorted((HERE / "mistakes" / "site").glob("*.yaml"))
# What only check_site.py, or the reader of YAML itself, can see.
BEYOND_A_SCHEMA = {
    "duplicate", "existing", "heads", "networks", "no-head", "no-machines", "not-a-host",
    "not-yaml",
}  # fmt: skip


@functools.cache
def fits() -> Draft202012Validator:
    return Draft202012Validator(
        json_schema("site"), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def name_of(path: Path) -> str:
    return path.stem


def objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict):
            yield part
        for item in part.values():
            yield from objects(item)


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_a_good_file_loads_and_fits_the_published_schema(path: Path) -> None:
    loaded = load_site(path)
    assert loaded.folder == path.parent
    assert loaded.source == path.read_text(encoding="utf-8")
    fits().validate(plain(compose(read_source(path))))


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_a_site_can_be_copied_and_sent_to_another_process(path: Path) -> None:
    site = load_site(path).site
    assert pickle.loads(pickle.dumps(site)) == site
    assert copy.deepcopy(site) == site
    assert Site.model_validate(site.model_dump(mode="json")) == site


@pytest.mark.parametrize("path", MISTAKES, ids=name_of)
def test_a_mistake_is_told_with_its_place_and_a_hint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(SpecError) as caught:
        load_site(Path(path.name))
    assert str(caught.value) + "\n" == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_text_belongs_to_a_mistake() -> None:
    texts = {path.stem for path in (HERE / "mistakes" / "site").glob("*.txt")}
    assert texts == {path.stem for path in MISTAKES}
    assert texts >= BEYOND_A_SCHEMA


@pytest.mark.parametrize(
    "path", [path for path in MISTAKES if path.stem not in BEYOND_A_SCHEMA], ids=name_of
)
def test_a_mistake_that_a_schema_can_say_does_not_fit(path: Path) -> None:
    assert not fits().is_valid(plain(compose(read_source(path))))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        load_site(tmp_path / "gone.yaml")


def test_the_schema_is_a_schema_and_describes_every_field() -> None:
    schema = json_schema("site")
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(names_of(Site))
    assert schema["required"] == ["mlstead", "kind", "name"]
    found = list(objects(schema))
    assert len(found) == 5
    for each in found:
        assert each["description"]
        assert each["additionalProperties"] is False
        for name, field in each["properties"].items():
            assert field.get("description") or "$ref" in field, name


def test_the_schema_of_work_files_knows_no_site() -> None:
    assert "site" not in json_schema()["properties"]["kind"]["enum"]


def test_a_word_near_site_is_hinted_at() -> None:
    with pytest.raises(NotFoundError) as caught:
        json_schema("sites")
    assert caught.value.hint == "did you mean site?"
