"""PyTorch as its tutorials show it: torchvision transforms v2, a DataLoader with two workers, AdamW and OneCycleLR.

`torch_cnn` reads an ImageFolder, so it decodes every image in every epoch; `torch_cnn_cached` keeps the decoded images
in memory as uint8. The changes are of the same kinds and strengths as ours, without low resolution and JPEG
compression. The layout in memory is channels_last, as PyTorch's performance guide advises for convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bench import training_worker
from bench.training_worker import Phase

SIDE = 128


def transforms(mean: float, std: float, *, augment: bool, decoded: bool) -> v2.Compose:
    first = [] if decoded else [v2.ToImage(), v2.Resize((SIDE, SIDE), antialias=True)]
    changes = [
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(
            20, translate=(0.1, 0.1), scale=(1 / 1.2, 1.2), shear=8, interpolation=v2.InterpolationMode.BILINEAR
        ),
        v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.15),
        v2.RandomApply([v2.GaussianBlur(5, sigma=2.0)], p=0.3),
    ]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([mean] * 3, [std] * 3)]
    erasing = [v2.RandomErasing(0.2, scale=(0.04, 0.16))]
    return v2.Compose(first + changes + last + erasing if augment else first + last)


class InMemory(Dataset):
    """The images of a folder, decoded once to (n, 3, s, s) uint8."""

    def __init__(self, folder: Path, transform: v2.Compose) -> None:
        decode = v2.Compose([v2.ToImage(), v2.Resize((SIDE, SIDE), antialias=True)])
        files = by_class(folder, decode)
        self.images = torch.stack([image for image, _ in files])
        self.labels = [label for _, label in files.samples]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[i]), self.labels[i]


def by_class(folder: Path, transform: v2.Compose) -> ImageFolder:
    """An ImageFolder; its classes are in alphabetical order, so with_mask is 0 here."""
    return ImageFolder(str(folder), transform=transform)


def build_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 30 * 30, 128),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(64, 2),
    )


class MobileNet(nn.Module):
    """A new head on torchvision's frozen MobileNetV2, which runs on every batch."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.backbone = models.mobilenet_v2(weights=None).features
        load_keras_weights(self.backbone, weights)
        self.backbone.requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(1280, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.backbone.eval()  # keeps the statistics of batch normalization
        with torch.no_grad():
            features = self.backbone(x).mean((2, 3))
        return self.head(features)


class AsKeras(nn.Conv2d):
    """A convolution with stride 2 that pads only at the right and the bottom, as Keras' MobileNetV2 does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


def load_keras_weights(backbone: nn.Module, path: Path) -> None:
    """Load Keras' ImageNet weights, in an .npz of arrays in the order of the layers: kernels, and the four arrays of
    each batch normalization (gamma, beta, mean, variance)."""
    with np.load(path) as file:
        tensors = iter([torch.from_numpy(file[f"arr_{i}"]) for i in range(len(file.files))])
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            kernel = next(tensors)
            # (h, w, in, out), or (h, w, channels, 1) of a depthwise convolution
            kernel = kernel.permute(2, 3, 0, 1) if layer.groups > 1 else kernel.permute(3, 2, 0, 1)
            assert kernel.shape == layer.weight.shape
            layer.weight.data.copy_(kernel)
            if layer.stride == (2, 2):
                layer.__class__, layer.padding = AsKeras, (0, 0)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
            for target in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                target.copy_(next(tensors))
    assert next(tensors, None) is None


def way(
    folder: Path, model: nn.Module, mean: float, std: float, batch_size: int, epochs: int, rate: float, *, cached: bool
) -> list[Phase]:
    dataset = InMemory if cached else by_class
    train = dataset(folder / "train", transforms(mean, std, augment=True, decoded=cached))
    val = dataset(folder / "val", transforms(mean, std, augment=False, decoded=cached))
    loader = DataLoader(
        train, batch_size, shuffle=True, num_workers=2, drop_last=len(train) >= batch_size, persistent_workers=True
    )
    model = model.to(memory_format=torch.channels_last)
    steps = max(1, len(train) // batch_size)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps * epochs)
    loss_of = nn.CrossEntropyLoss()

    def endless() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    batches = endless()
    done = 0

    def step() -> float:
        nonlocal done
        model.train()
        images, labels = next(batches)
        loss = loss_of(model(images.to(memory_format=torch.channels_last)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += 1
        if done < steps * epochs:
            schedule.step()
        return loss.item()

    def accuracy() -> float:
        model.eval()
        with torch.no_grad():
            correct = [(model(x).argmax(1) == y) for x, y in DataLoader(val, 128)]
        return float(torch.cat(correct).float().mean())

    return [Phase("train", batch_size, steps, epochs, lambda: next(batches), step, accuracy)]


def torch_cnn(folder: Path) -> list[Phase]:
    return way(folder, build_cnn(), 0.5, 0.5, 64, 20, 0.001, cached=False)


def torch_cnn_cached(folder: Path) -> list[Phase]:
    return way(folder, build_cnn(), 0.5, 0.5, 64, 20, 0.001, cached=True)


def torch_mobilenet(folder: Path) -> list[Phase]:
    return way(folder, MobileNet(folder / "backbone.npz"), 0.5, 0.5, 32, 10, 0.003, cached=True)


WAYS = {"torch_cnn": torch_cnn, "torch_cnn_cached": torch_cnn_cached, "torch_mobilenet": torch_mobilenet}

if __name__ == "__main__":
    torch.manual_seed(0)
    training_worker.main(WAYS)
