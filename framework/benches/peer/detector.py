"""The detector of github.com/OpenGVLab/Official-ConvMAE-Det, checked out somewhere: ConvMAE-B with Mask R-CNN on its detectron2.

Nothing of detectron2 has to be compiled for it: RoIAlign and NMS are torchvision's. Stand-ins are for what is compiled, and for
what today's packages no longer have.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

CONFIG = "projects/ConvMAEDet/configs/COCO/mask_rcnn_vitdet_convmae_b_25ep.py"


def build(repository: Path) -> nn.Module:
    """The model of its recipe for COCO, called as ours is: normalised images in, loss out."""
    if not (repository / CONFIG).is_file():
        sys.exit(f"{repository}: no {CONFIG} here; --detectron2 is a checkout of OpenGVLab/Official-ConvMAE-Det")
    stand_in("detectron2._C")
    stand_in("pkg_resources", resource_filename=lambda _, path: str(repository / path))
    stand_in("fairscale")
    stand_in("fairscale.nn")
    stand_in("fairscale.nn.checkpoint", checkpoint_wrapper=lambda block: block)
    vars(Image)["LINEAR"] = Image.Resampling.BILINEAR  # the alias that Pillow 10 removed
    sys.path.insert(0, str(repository))
    from detectron2.config import LazyConfig, instantiate

    return Detector(instantiate(LazyConfig.load(str(repository / CONFIG)).model))


def stand_in(name: str, **members: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


class Detector(nn.Module):
    """Images with the object that `convmae bench` gives them: it fills the upper left quarter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        from detectron2.structures import Boxes, Instances, PolygonMasks
        from detectron2.utils.events import EventStorage

        height, width = images.shape[2:]
        right, bottom = width / 2, height / 2
        inputs = []
        for index, image in enumerate(images):
            objects = Instances((height, width))
            objects.gt_boxes = Boxes(torch.tensor([[0, 0, right, bottom]]))
            objects.gt_classes = torch.tensor([index % 80])
            objects.gt_masks = PolygonMasks([[[0, 0, right, 0, right, bottom, 0, bottom]]])
            # It normalises images itself.
            inputs.append({"image": image * self.model.pixel_std + self.model.pixel_mean, "instances": objects})
        with EventStorage():
            return sum(self.model(inputs).values())
