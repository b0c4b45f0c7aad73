"""Makes REQUEST.json, an Open Inference Protocol request, from the first images of an IDX file."""

import argparse
import json
from pathlib import Path

import idx


def main() -> None:
    """Write a request with one input of shape [n, 28, 28] and datatype UINT8."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("images", type=Path, help="an IDX file of images, or its folder")
    arguments.add_argument("--count", type=int, default=8)
    arguments.add_argument("--out", type=Path, default=Path("REQUEST.json"))
    given = arguments.parse_args()
    try:
        path = given.images
        path = idx.find(path, "t10k-images-idx3-ubyte") if path.is_dir() else path
        sizes, pixels = idx.read(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"request: {error}") from error
    if len(sizes) != 3:
        raise SystemExit(f"request: {path.name} holds no images")
    count = min(given.count, sizes[0])
    length = sizes[1] * sizes[2]
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [count, *sizes[1:]],
        "data": list(pixels[: count * length]),
    }
    given.out.write_text(json.dumps({"inputs": [tensor]}))
    print(f"{given.out}: {count} images")


if __name__ == "__main__":
    main()
