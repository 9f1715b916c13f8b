"""Damage images of every format and decode them as the pipeline and `predict` do.

    python -m tests.faults.fuzz_images COUNT SEED            damaged at random
    python -m tests.faults.fuzz_images --guided COUNT SEED   guided by coverage, with atheris

Whatever the bytes, an image is decoded or refused with BadImage. Prints a JSON object: how many were decoded and
refused, and the longest time.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import PngImagePlugin

from face_mask import decoding
from tests.faults import made_images

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
MAX_BYTES = 1 << 16


class Counts:
    def __init__(self) -> None:
        self.decoded = self.refused = 0
        self.longest = 0.0  # seconds of processor time

    def decode(self, encoded: bytes) -> None:
        """Decode as stage `decode` does, to a small square, and as `predict` does."""
        started = time.process_time()
        try:
            assert decoding.decode(encoded, 64).pixels.shape == (64, 64, 3)
            rgb, width, height, kind = decoding.open_rgb(encoded)
            assert decoding.to_array(rgb).shape in ((height, width, 3), (width, height, 3))
            assert decoding.format_of(encoded) == kind
            self.decoded += 1
        except decoding.BadImage:
            self.refused += 1
        self.longest = max(self.longest, time.process_time() - started)

    def report(self) -> None:
        print(json.dumps(vars(self)), flush=True)


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """Images of the corpus with some bytes changed, removed, repeated or taken from another, and truncated."""
    chance = random.Random(seed)
    corpus = made_images.corpus()
    for _ in range(count):
        image = bytearray(chance.choice(corpus))
        for _ in range(chance.choice((0, 1, 1, 2, 4, 16, 64))):
            # Most formats have what matters at the beginning.
            start = min(int(chance.paretovariate(0.5)), len(image) - 1) if chance.random() < 0.5 else None
            start = chance.randrange(len(image)) if start is None else start
            length = min(chance.choice((1, 1, 2, 4, 16)), len(image) - start)
            what = chance.randrange(5)
            if what == 0:
                image[start] = chance.randrange(256)
            elif what == 1:
                image[start : start + length] = bytes([chance.choice(INTERESTING)]) * length
            elif what == 2 and len(image) > length + 1:
                del image[start : start + length]
            elif what == 3:
                image[start:start] = image[start : start + length] * chance.choice((1, 2, 100))
            else:
                other = chance.choice(corpus)
                position = chance.randrange(len(other))
                image[start : start + length] = other[position : position + length]
        if chance.random() < 0.2:
            del image[chance.randrange(len(image)) :]
        yield bytes(image)


def main() -> None:
    guided, (count, seed) = "--guided" in sys.argv, sys.argv[-2:]
    counts = Counts()
    PngImagePlugin.ChunkStream.crc = PngImagePlugin.ChunkStream.crc_skip  # type: ignore[method-assign]
    if not guided:
        for encoded in damaged(int(count), int(seed)):
            counts.decode(encoded)
        counts.report()
        return
    import atheris

    def one_input(encoded: bytes) -> None:
        counts.decode(encoded)
        if (counts.decoded + counts.refused) % 1000 == 0:  # atheris ends the process itself
            counts.report()

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(made_images.corpus()):
            (Path(folder) / str(number)).write_bytes(image)
        options = [f"-runs={count}", f"-seed={seed}", f"-max_len={MAX_BYTES}", "-timeout=30", "-rss_limit_mb=1000"]
        atheris.Setup([sys.argv[0], *options, folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
