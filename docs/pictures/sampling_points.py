"""Draws docs/pictures/*_sampling.png: where each operator reads, computed by the library itself.

    python docs/pictures/sampling_points.py

For one output position (the large ring) every tap is a dot on the grid of the input, as large as its modulation; the
dots are measured, not assumed: each is the gradient of the result by the input, with all other taps switched off.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from pliant import ops

CELL, SIZE, HERE = 36, 13, Path(__file__).parent
INK, GRID, DOT = (40, 40, 40), (225, 225, 225), (176, 88, 30)


def read_points(call, taps: int) -> list[tuple[float, float, float]]:
    """(y, x, strength) of each tap: the centre of mass and the sum of the result's gradient by the input."""
    points = []
    grid = torch.arange(SIZE, dtype=torch.float64)
    for tap in range(taps):
        weight = torch.zeros(1, 1, taps, dtype=torch.float64)
        weight[..., tap] = 1
        image = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
        call(image, weight)[..., SIZE // 2, SIZE // 2].sum().backward()
        mass = image.grad[0, 0]
        total = mass.sum()
        if total > 0:
            points.append(((mass.sum(1) @ grid / total).item(), (mass.sum(0) @ grid / total).item(), total.item()))
    return points


def draw(name: str, title: str, points: list[tuple[float, float, float]]) -> Path:
    """One picture: the grid, the position, the taps."""
    side = CELL * (SIZE + 1)
    picture = np.full((side + 34, side, 3), 255, np.uint8)
    for i in range(SIZE):
        at = CELL * (i + 1)
        cv2.line(picture, (at, CELL), (at, CELL * SIZE), GRID, 1)
        cv2.line(picture, (CELL, at), (CELL * SIZE, at), GRID, 1)

    def pixel(y: float, x: float) -> tuple[int, int]:
        return round(CELL * (x + 1) * 16), round(CELL * (y + 1) * 16)

    cv2.circle(picture, pixel(SIZE // 2, SIZE // 2), 13 * 16, INK, 2, cv2.LINE_AA, 4)
    for y, x, strength in points:
        cv2.circle(picture, pixel(y, x), round(16 * (3 + 5 * strength)), DOT, -1, cv2.LINE_AA, 4)
    cv2.putText(picture, title, (CELL, side + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA)
    path = HERE / f"{name}_sampling.png"
    cv2.imwrite(str(path), picture)
    return path


def deformable(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    offset = torch.randn(18, generator=generator, dtype=torch.float64) * 1.2
    mask = torch.rand(9, generator=generator, dtype=torch.float64)
    out = image.shape[2:]
    offset, mask = (v.view(1, -1, 1, 1).expand(1, -1, *out) for v in (offset, mask))
    return ops.deform_conv2d(image, offset, weight.view(1, 1, 3, 3), padding=1, mask=mask)


def dilated(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    rates = torch.tensor([1.0, 2.6, 1.5], dtype=torch.float64).view(1, 3, 1, 1, 1).expand(1, 3, 1, SIZE, SIZE)
    return ops.dynamic_dilated_conv3d(image.unsqueeze(2), rates, weight.view(1, 1, 1, 3, 3), padding=(0, 1, 1))


def attended(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    points = weight.shape[2]
    spread = torch.randn(points, 2, generator=generator, dtype=torch.float64) * 0.17 + 0.5
    locations = torch.cat([torch.full((points, 1), 0.5, dtype=torch.float64), spread], 1)
    strengths = torch.rand(points, generator=generator, dtype=torch.float64)
    locations, weights = locations.view(1, 1, 1, points, 3), (weight * strengths).view(1, 1, 1, points)
    result = ops.deform_attention3d(image.view(1, -1, 1, 1), (1, SIZE, SIZE), locations, weights)
    return result.view(1, 1, 1, 1).expand(1, 1, SIZE, SIZE)


def main() -> None:
    print(draw("deform_attention", "attention: 16 points of one query and head", read_points(attended, 16)))
    print(draw("deform_conv", "deformable: every tap goes where it likes", read_points(deformable, 9)))
    print(draw("dynamic_dilated_conv", "dynamic dilation: D = (2.6, 1.5) here", read_points(dilated, 9)))


if __name__ == "__main__":
    main()
