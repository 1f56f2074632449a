"""A small segmentation network of one's own, made sparse in three lines.

Trains a plain network for half a minute to find a bright textured disc in moving noise, puts gates on its 3x3
convolutions, trains for half a minute more, and compares accuracy and time on a video.

    python examples/sparsify.py
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.nn import SparseStream, TripleSparseConv2d, convert

SIDE, TARGET = 256, 0.1


def network() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 4, 4), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, 1, 1)).to(memory_format=torch.channels_last)


def video(count: int, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Frames [T, 3, side, side] and masks [T, 1, side / 4, side / 4] of a disc that wanders."""
    ground = F.interpolate(torch.rand(1, 3, side // 8, side // 8), side, mode="bicubic")
    texture = F.interpolate(torch.rand(1, 3, side // 4, side // 4) + 0.4, side)
    start, step = torch.rand(2) * 0.4 + 0.3, torch.randn(2) * 0.01
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    places = [start + t * step for t in range(count)]
    masks = torch.stack([((y - p[0]) ** 2 + (x - p[1]) ** 2 < 0.1**2).float()[None] for p in places])
    frames = torch.where(masks > 0, texture, ground) + 0.05 * torch.randn(count, 3, side, side)
    return frames.contiguous(memory_format=torch.channels_last), F.avg_pool2d(masks, 4)


def train(net: nn.Module, seconds: float, *, sparse: bool) -> None:
    """The first frame of a clip is dense, the next two sparse; a tenth of the positions is what gates aim at."""
    gates = [p for name, p in net.named_parameters() if ".gate." in name]
    rest = [p for name, p in net.named_parameters() if ".gate." not in name]
    optimiser = torch.optim.Adam([{"params": rest, "lr": 5e-4}, {"params": gates, "lr": 5e-3}])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frames, masks = video(3, 128)
        stream, loss = SparseStream(), torch.zeros(())
        for t in range(3):
            with stream.frame(dense=not sparse or t == 0):
                loss = loss + F.binary_cross_entropy_with_logits(net(frames[t : t + 1]), masks[t : t + 1])
            for decision in stream.decisions:
                loss = loss + (decision.share - TARGET).square()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def measure(net: nn.Module, *, sparse: bool) -> tuple[float, float, float]:
    """Overlap with the truth, milliseconds a frame, share of computed positions; every tenth frame is dense."""
    overlaps, times, shares = [], [], []
    for seed in range(3):
        torch.manual_seed(1000 + seed)
        frames, masks = video(21)
        stream = SparseStream(in_place=False)
        for t in range(21):
            begin = time.perf_counter()
            with stream.frame(dense=not sparse or t % 10 == 0):
                found = net(frames[t : t + 1]) > 0
            times.append(time.perf_counter() - begin)
            truth = masks[t : t + 1] > 0.5
            overlaps.append(((found & truth).sum() / (found | truth).sum().clamp(min=1)).item())
            shares += [decision.share.item() for decision in stream.decisions]
    share = sum(shares) / len(shares) if shares else 1.0
    return sum(overlaps) / len(overlaps), 1000 * sorted(times)[len(times) // 2], share


def main(seconds: float = 30.0) -> None:
    torch.manual_seed(0)
    net = network()
    train(net.train(), seconds, sparse=False)
    dense = measure(net.eval(), sparse=False)

    # The three lines.
    def rule(name: str, layer: nn.Module) -> nn.Module | None:
        return TripleSparseConv2d.from_conv(layer) if getattr(layer, "kernel_size", 0) == (3, 3) else None

    convert(net, rule)

    train(net.train(), seconds, sparse=True)
    sparse = measure(net.eval(), sparse=True)
    for name, (overlap, milliseconds, share) in (("dense", dense), ("sparse", sparse)):
        print(f"{name:6}  overlap {overlap:.3f}  {milliseconds:6.2f} ms a frame  {100 * share:5.1f} % computed")


if __name__ == "__main__":
    main()
