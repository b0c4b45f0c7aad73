"""Fetches the official files over https, each held against the checksum its publisher states."""

import hashlib
import json
import sys
import urllib.request
from pathlib import Path

TIMEOUT = 60  # seconds without a byte


def download(listing: Path, folder: Path) -> None:
    """Fetch the files of a listing over https, and hold them against their checksums."""
    wanted = json.loads(listing.read_text())
    for name, checksum in wanted["md5"].items():
        address = wanted["base"] + name
        if not address.startswith("https://"):
            raise ValueError(f"{address}: only https is trusted")
        print(f"fetching {address}", flush=True)
        digest = hashlib.md5(usedforsecurity=False)  # what the publisher states
        with (
            urllib.request.urlopen(address, timeout=TIMEOUT) as answer,
            (folder / name).open("wb") as file,
        ):
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != checksum:
            raise ValueError(f"{name}: MD5 is {digest.hexdigest()}, its publisher says {checksum}")


def main() -> None:
    """Fetch the official files into the folder given on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python fetch.py FOLDER")
    folder = Path(sys.argv[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download(Path(__file__).parent / "official" / "download.json", folder)
    except (OSError, ValueError) as error:
        raise SystemExit(f"fetch: {error}") from error


if __name__ == "__main__":
    main()
