"""``.dvc`` files are read as data, and only what they may say."""

from pathlib import Path

import pytest

from mlstead.clients.dvcfile import DvcOut, read_dvc
from mlstead.errors import NotFoundError, UserError

MD5 = "0123456789abcdef0123456789abcdef"


def write(folder: Path, text: str) -> Path:
    (folder / "x.dvc").write_text(text)
    return folder / "x.dvc"


def test_a_folder_and_a_file_are_read(tmp_path: Path) -> None:
    text = f"outs:\n- md5: {MD5}.dir\n  size: 12\n  nfiles: 3\n  hash: md5\n  path: images\n"
    assert read_dvc(write(tmp_path, text)) == DvcOut(f"{MD5}.dir", "images", 12, 3)
    text = f"outs:\n- md5: {MD5}\n  size: 5\n  path: a.csv\n"
    assert read_dvc(write(tmp_path, text)) == DvcOut(MD5, "a.csv", 5, 1)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "outs: []", "outs: [1]", "a: [", "outs:\n- md5: zz\n  path: a\n", "\0",
        f"outs:\n- {{md5: {MD5}, path: a}}\n- {{md5: {MD5}, path: b}}\n",
        f"outs:\n- {{md5: {MD5}, path: ../a}}\n", f"outs:\n- {{md5: {MD5}, path: /a}}\n",
        f"outs:\n- {{md5: {MD5}}}\n", f"outs:\n- {{md5: ../../{MD5}, path: a}}\n",
        "outs:\n- !!python/object/apply:os.system ['touch /tmp/canary']\n",
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        read_dvc(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_dvc(tmp_path / "x.dvc")
