"""A script that loads MobileNetV2 and predicts one image, as it would be written with PyTorch.

python -m bench.peers.torch_first_answer MODEL.pt IMAGE      MODEL.pt is written if it does not exist
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torchvision import io
from torchvision.transforms import v2

from bench.peers.torch_predict import build

if __name__ == "__main__":
    model = build("mobilenet")
    if not Path(sys.argv[1]).exists():
        torch.save(model.state_dict(), sys.argv[1])
    model.load_state_dict(torch.load(sys.argv[1]))
    image = v2.functional.resize(io.decode_image(sys.argv[2], io.ImageReadMode.RGB), [128, 128])
    with torch.inference_mode():
        print(model(image[None]))
