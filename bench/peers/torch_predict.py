"""PyTorch: the same architectures, with random weights, which take as long.

python -m bench.peers.torch_predict one_image eager|traced MODEL CALLS
python -m bench.peers.torch_predict batches eager|channels_last MODEL COUNT
python -m bench.peers.torch_predict decode pillow|torchvision FOLDER
python -m bench.peers.torch_predict files pillow|torchvision FOLDER MODEL
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torchvision import datasets, io, models
from torchvision.transforms import v2

from bench import worker
from bench.latency import latency

SIZE = 128
BATCH = 128


def build(name: str) -> nn.Module:
    """The CNN or MobileNetV2 of this project, from images (n, 3, 128, 128) uint8 to probabilities (n, 2)."""
    head = [nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2), nn.Softmax(1)]
    if name == "cnn":
        layers = [
            *[nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Flatten(), nn.Linear(64 * 30 * 30, 128), *head],
        ]
    else:
        backbone = models.mobilenet_v2(weights=None).features
        layers = [backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 128), *head]
    return nn.Sequential(Scaled(), *layers).eval()


class Scaled(nn.Module):
    """Pixels 0…255 to -1…1."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 127.5 - 1


def loader(folder: str, way: str) -> torch.utils.data.DataLoader:
    """Batches of uint8 images, decoded by one process per core: by Pillow, or by torchvision's own decoder."""
    if way == "pillow":
        transform = v2.Compose([v2.Resize((SIZE, SIZE)), v2.PILToTensor()])
        files = datasets.ImageFolder(f"{folder}/images", transform)
    else:
        files = datasets.ImageFolder(
            f"{folder}/images",
            v2.Resize((SIZE, SIZE)),
            loader=lambda path: io.decode_image(path, io.ImageReadMode.RGB),
        )
    return torch.utils.data.DataLoader(files, BATCH, num_workers=torch.get_num_threads())


def one_image(way: str, name: str, calls: str) -> Callable[[], dict[str, float]]:
    model: Callable = build(name)
    image = torch.randint(256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    if way == "traced":
        model = torch.jit.freeze(torch.jit.trace(model, image))
    return latency(lambda: model(image).numpy(), int(calls))


def batches(way: str, name: str, count: str) -> Callable[[], float]:
    model = build(name)
    images = torch.randint(256, (int(count), 3, SIZE, SIZE), dtype=torch.uint8)
    if way == "channels_last":
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)

    def measure() -> float:
        start = time.perf_counter()
        torch.cat([model(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]).numpy()
        return len(images) / (time.perf_counter() - start)

    return measure


def decode(way: str, folder: str) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        images = np.concatenate([batch.numpy() for batch, _ in loader(folder, way)])
        return len(images) / (time.perf_counter() - start)

    return measure


def files(way: str, folder: str, name: str) -> Callable[[], float]:
    model = build(name).to(memory_format=torch.channels_last)

    def measure() -> float:
        start = time.perf_counter()
        parts = [model(batch.to(memory_format=torch.channels_last)).numpy() for batch, _ in loader(folder, way)]
        return sum(map(len, parts)) / (time.perf_counter() - start)

    return measure


MEASURES: dict[str, Callable] = {"one_image": one_image, "batches": batches, "decode": decode, "files": files}

if __name__ == "__main__":
    with torch.inference_mode():
        worker.serve(MEASURES[sys.argv[1]](*sys.argv[2:]))
