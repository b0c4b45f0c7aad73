"""Whole files: the good ones load and go through the record; the bad ones say why."""

import copy
import functools
import json
import pickle
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from mlstead.errors import SpecError
from mlstead.spec.compose import compose
from mlstead.spec.load import load, read_source
from mlstead.spec.nodes import plain
from mlstead.spec.record import dump, from_record
from mlstead.spec.schema import json_schema
from mlstead.spec.work import KINDS

HERE = Path(__file__).parent
GOOD = sorted((HERE / "good").glob("*.yaml"))
MISTAKES = sorted((HERE / "mistakes").glob("*.yaml"))


@functools.cache
def fits(kind: str | None) -> Draft202012Validator:
    return Draft202012Validator(json_schema(kind))


def name_of(path: Path) -> str:
    return path.stem


def test_there_is_a_good_file_of_every_kind() -> None:
    kinds = {load(path).work.kind for path in GOOD}
    assert kinds == set(KINDS)


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_a_good_file_comes_back_from_its_record_as_it_was(path: Path) -> None:
    work = load(path).work
    record = json.loads(json.dumps(dump(work)))
    assert from_record(record) == work
    assert dump(from_record(record)) == record


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_a_spec_can_be_copied_and_sent_to_another_process(path: Path) -> None:
    work = load(path).work
    assert pickle.loads(pickle.dumps(work)) == work
    assert copy.deepcopy(work) == work


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_a_good_file_fits_the_published_schema(path: Path) -> None:
    content = plain(compose(read_source(path)))
    fits(None).validate(content)
    fits(content["kind"]).validate(content)


@pytest.mark.parametrize("path", MISTAKES, ids=name_of)
def test_a_mistake_is_told_with_its_place_and_a_hint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(SpecError) as caught:
        load(Path(path.name))
    assert str(caught.value) + "\n" == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_there_are_more_than_ten_mistakes_and_every_text_belongs_to_one() -> None:
    texts = {path.stem for path in (HERE / "mistakes").glob("*.txt")}
    assert texts == {path.stem for path in MISTAKES}
    assert len(texts) > 10
