"""A small segmentation network of one's own, made sparse in three lines and faster after.

A plain network learns, in a minute on made-up clips, to find checkered discs that drift over a smooth, noisy ground.
Its 3x3 convolutions then get gates and learn on for another minute. Printed for both, on video of 480 x 864 whose discs
cover a hundredth of the picture: overlap with the truth, processor time a frame (by turns, one thread), share of gated
positions computed on sparse frames.

    python examples/sparsify.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.nn import SparseStream, TripleSparseConv2d, convert

TARGET = 0.12  # share of positions that gates aim at on training crops; discs are 4 % of them
RADIUS, SPEED = 18.0, 3.0  # pixels, pixels a frame
DENSE_EVERY = 5  # frames


def network(channels: int = 96, layers: int = 5) -> nn.Sequential:
    """Images [N, 3, H, W] -> logits [N, 1, H / 4, W / 4]."""
    found: list[nn.Module] = [nn.Conv2d(3, channels, 4, 4), nn.ReLU()]
    for _ in range(layers):
        found += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    for layer in found[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # PyTorch's own fades out over seven layers
    return nn.Sequential(*found, nn.Conv2d(channels, 1, 1)).to(memory_format=torch.channels_last)


def sparsify(net: nn.Module) -> nn.Module:
    """Gates on every 3x3 convolution but the first, which sees too little of the picture to tell what matters."""

    def rule(name: str, layer: nn.Module) -> nn.Module | None:
        gated = getattr(layer, "kernel_size", None) == (3, 3) and name != "2"
        return TripleSparseConv2d.from_conv(layer) if gated else None

    return convert(net, rule)


def video(count: int, height: int, width: int, discs: int) -> tuple[Tensor, Tensor]:
    """Frames [T, 3, height, width] and masks [T, 1, height / 4, width / 4] in [0, 1]: discs that drift and bounce."""
    ground = F.interpolate(torch.rand(1, 3, height // 8, width // 8), (height, width), mode="bicubic")
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    size, place = torch.tensor([height, width]), torch.rand(discs, 2)
    place = RADIUS + place * (size - 2 * RADIUS)
    step = SPEED * F.normalize(torch.randn(discs, 2), dim=1)
    colours = torch.rand(discs, 2, 3, 1, 1) * 0.4 + torch.tensor([0.0, 0.6])[:, None, None, None]  # dark, bright
    frames, masks = [], []
    for _ in range(count):
        frame, mask = ground[0] + 0.05 * torch.randn(3, height, width), torch.zeros(height, width)
        for (cy, cx), (even, odd) in zip(place, colours):
            inside = (y - cy) ** 2 + (x - cx) ** 2 < RADIUS**2
            checks = ((y - cy).div(4).floor() + (x - cx).div(4).floor()) % 2 == 0
            frame = torch.where(inside, torch.where(checks, even, odd), frame)
            mask = torch.maximum(mask, inside.float())
        frames.append(frame)
        masks.append(mask[None])
        step = torch.where((place + step < RADIUS) | (place + step > size - RADIUS), -step, step)
        place = place + step
    return torch.stack(frames).contiguous(memory_format=torch.channels_last), F.avg_pool2d(torch.stack(masks), 4)


def train(net: nn.Module, steps: int, *, sparse: bool, side: int = 160, length: int = 4) -> None:
    """On clips with one disc; their first frame is dense, the others are as gates decide."""
    gates = [p for name, p in net.named_parameters() if ".gate." in name]
    rest = [p for name, p in net.named_parameters() if ".gate." not in name]
    groups = [
        {"params": rest, "lr": 3e-4 if sparse else 1e-3},
        {"params": [p for p in gates if p.ndim > 1], "lr": 1e-3},
        {"params": [p for p in gates if p.ndim == 1], "lr": 1e-2},
    ]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for step in range(steps):
        bound = max(TARGET, 1 - 2 * step / steps * (1 - TARGET))  # drawn in over the first half
        frames, masks = video(length, side, side, discs=1)
        stream, loss = SparseStream(), torch.zeros(())
        for t in range(length):
            with stream.frame(dense=not sparse or t == 0):
                loss = loss + 10 * F.binary_cross_entropy_with_logits(net(frames[t : t + 1]), masks[t : t + 1])
            if stream.decisions:
                share = sum(decision.share for decision in stream.decisions) / len(stream.decisions)
                loss = loss + 4 * (share - bound).relu().square()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def measure(nets: dict[str, nn.Module], frames: int, height: int, width: int) -> dict[str, dict[str, float]]:
    """By network: overlap with the truth, median and mean processor ms a frame, computed share of sparse frames."""
    images, masks = video(frames, height, width, max(1, height * width // 80_000))
    streams = {name: SparseStream(in_place=True) for name in nets}
    overlaps, seconds, shares = ({name: [] for name in nets} for _ in range(3))
    for t in range(frames):
        for name, net in nets.items():
            begin = time.process_time()
            with streams[name].frame(dense=t % DENSE_EVERY == 0):
                found = net(images[t : t + 1]) > 0
            seconds[name].append(time.process_time() - begin)
            truth = masks[t : t + 1] > 0.5
            overlaps[name].append(((found & truth).sum() / (found | truth).sum().clamp(min=1)).item())
            shares[name] += [float(decision.share) for decision in streams[name].decisions]
    return {
        name: {
            "overlap": statistics.mean(overlaps[name]),
            "median ms": 1000 * statistics.median(seconds[name]),
            "mean ms": 1000 * statistics.mean(seconds[name][1:]),  # the first warms up
            "share": statistics.mean(shares[name]) if shares[name] else 1.0,
        }
        for name in nets
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=180, help="of each of the two trainings")
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--frames", type=int, default=21, help="of the video that is measured on")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 864), help="its rows and columns")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = network(options.channels)
    begin = time.process_time()
    train(net, options.steps, sparse=False)
    dense = network(options.channels)
    dense.load_state_dict(net.state_dict())
    middle = time.process_time()
    train(sparsify(net), options.steps, sparse=True)
    print(f"trained for {middle - begin:.0f} s as it is, {time.process_time() - middle:.0f} s more with gates")
    torch.manual_seed(1)
    measured = measure({"dense": dense.eval(), "sparse": net.eval()}, options.frames, *options.size)
    for name, found in measured.items():
        print(
            f"{name:6}  overlap {found['overlap']:.3f}  {found['mean ms']:6.1f} ms a frame (median "
            f"{found['median ms']:.1f})  {100 * found['share']:5.1f} % computed"
        )
    print(f"{measured['dense']['mean ms'] / measured['sparse']['mean ms']:.2f} times as fast")


if __name__ == "__main__":
    main()
