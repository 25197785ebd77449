"""Pictures as cameras and browsers have them, by Pillow, in an environment of its own.

python signs_pictures.py FOLDER
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image, ImageFilter

COUNT = 12
FORMATS = {
    "jpg": {"quality": 92},
    "jpeg": {"quality": 75, "progressive": True},
    "png": {},
    "webp": {"quality": 90},
    "gif": {},
    "tif": {"compression": "tiff_lzw"},
    "jp2": {},
    "avif": {"quality": 90},
    "bmp": {},
}


def main(folder: Path) -> None:
    draw = random.Random(11)
    for number in range(COUNT):
        picture = photograph(draw, 420 + 20 * number)
        for name, options in FORMATS.items():
            if f".{name}" in Image.registered_extensions():
                picture.save(folder / f"picture-{number}.{name}", **options)


def photograph(draw: random.Random, side: int) -> Image.Image:
    """Soft shapes with the noise of a sensor over them."""
    small = Image.frombytes("RGB", (24, 24), draw.randbytes(24 * 24 * 3))
    shapes = small.resize((side, side), Image.Resampling.BICUBIC)
    noise = Image.frombytes("RGB", (side, side), draw.randbytes(side * side * 3))
    return Image.blend(shapes, noise.filter(ImageFilter.SMOOTH), 0.12)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
