"""Write enlarged copies of the first images of every class, as a data set for `--data`.

    python enlarge.py SOURCE TARGET --pixels 96 --train 300 --test 100 [--grey]

SOURCE and TARGET are laid out as train/<class>/*.jpg and test/<class>/*.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image


def enlarge(source: Path, target: Path, pixels: int, counts: dict[str, int], *, grey: bool) -> int:
    """Copy so many images of every class of each split; the number copied comes back."""
    copied = 0
    for split, count in counts.items():
        for folder in sorted(path for path in (source / split).iterdir() if path.is_dir()):
            into = target / split / folder.name
            into.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir())[:count]:
                image = Image.open(path).convert("RGB")
                large = image.resize((pixels, pixels), Image.Resampling.BICUBIC)
                large = large.convert("L") if grey else large
                large.save(into / path.name, quality=92)
                copied += 1
    return copied


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--pixels", type=int, default=96)
    parser.add_argument("--train", type=int, default=300, help="images per class")
    parser.add_argument("--test", type=int, default=100, help="images per class")
    parser.add_argument("--grey", action="store_true", help="one channel")
    options = parser.parse_args()
    counts = {"train": options.train, "test": options.test}
    copied = enlarge(options.source, options.target, options.pixels, counts, grey=options.grey)
    print(copied, "images")


if __name__ == "__main__":
    main()
