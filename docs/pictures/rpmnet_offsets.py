"""What RPM-Net sees between two frames: target, reference, offsets in colours, the reference warped by them.

python docs/pictures/rpmnet_offsets.py CLIP --weights runs/rpmnet/weights.safetensors --out offsets.png
[--frame 10] [--gap 1] [--size 256]

The offsets are those that masks are carried by: with references (the default) by likeness first and then what the
matching module adds, otherwise the matching module's alone.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from pliant import video
from pliant.models import load
from pliant.models.rpmnet import RPMNet, colour
from pliant.models.rpmnet.likeness import find_basis, likeness
from pliant.models.rpmnet.picture import offset_picture
from pliant.models.rpmnet.propagation import enlarge_offsets, find_motion
from pliant.ops import warp


def panels(network: RPMNet, target: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The four pictures side by side, [H, 4 W, 3] uint8; target, reference: [H, W, 3] uint8 RGB of one size."""
    first, second = (torch.from_numpy(image).movedim(-1, 0)[None] / 255 for image in (target, reference))
    space = network.preset.colour
    with torch.inference_mode():
        here, before = (network.embedding.stages(colour.from_rgb(image, space)) for image in (first, second))
        if network.preset.references:
            basis = find_basis(before, network.preset.likeness) if network.preset.likeness else None
            alike = likeness(here, basis), likeness(before, basis)
            offset = find_motion(network, (here[0], before[0]), alike)
        else:
            offset = network.match(here[0], before[0])
        offset = enlarge_offsets(offset, target.shape[:2])
        warped = warp(second, offset)[0].movedim(0, -1)
    rebuilt = (warped.clamp(0, 1) * 255).round().byte().numpy()
    return np.concatenate((target, reference, offset_picture(offset[0].numpy()), rebuilt), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--weights", type=Path, help="of an RPM-Net; default: those in the package")
    parser.add_argument("--out", type=Path, default=Path("rpmnet_offsets.png"))
    parser.add_argument("--frame", type=int, default=10)
    parser.add_argument("--gap", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="short side in pixels")
    options = parser.parse_args()

    with video.read(options.clip, start=options.frame) as frames:
        images = [frame.image for frame in islice(frames, options.gap + 1)]
    if len(images) <= options.gap:
        parser.error(f"{options.clip} has no frames {options.frame} and {options.frame + options.gap}")
    scale = options.size / min(images[0].shape[:2])
    reference, target = (
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for image in (images[0], images[-1])
    )
    picture = panels(load("rpmnet", options.weights), target, reference)
    cv2.imwrite(str(options.out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    print(options.out)


if __name__ == "__main__":
    main()
