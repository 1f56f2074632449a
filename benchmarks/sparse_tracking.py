"""How much faster is the triple sparse tracker than the same network dense, whole pipeline?

Both run the same frames in alternation: 480 x 854, every fifth frame memorised and dense, and on all others about 5 %
of the positions of every gated layer computed, drawn as blobs (gates are evaluated and then overruled by the drawing;
the rest is skipped and reused as in the paper's figure 5). Both are prepared as `pliant track` prepares them:
batch norms folded, freed memory kept, what follows a convolution fused where nothing has to be kept. Whole periods from
one memorised frame to the next are timed, but the first: on the first frame the decoder remembers nothing and is dense.

    python benchmarks/sparse_tracking.py --dtype bfloat16 --objects 1
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from pliant import ops
from pliant.inference.frames import prepare
from pliant.models import spvos
from pliant.models.spvos.flops import Video, average
from pliant.models.spvos.gated_conv import GatedConv2d

RESULTS = Path(__file__).parent / "results"


def blobs(rows: int, columns: int, share: float, seed: int) -> torch.Tensor:
    """Uint8 [1, 1, rows, columns]: ``share`` of the positions 2 in a few blobs, a quarter of the rest 1, others 0."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(2, 1, 5, 8, generator=generator)
    smooth = F.interpolate(coarse, (rows, columns), mode="bicubic", align_corners=False)
    first, second = (field.flatten() for field in smooth)
    policy = (second >= second.quantile(0.75)).to(torch.uint8)
    policy[first.topk(max(1, round(share * first.numel()))).indices] = 2
    return policy.reshape(1, 1, rows, columns)


def overrule(network: torch.nn.Module, share: float) -> None:
    """Gated layers evaluate their gates and then do as the blobs say: drawn anew for every layer and frame."""
    drawn: dict[tuple[int, int, int], torch.Tensor] = {}

    def decide(layer: GatedConv2d, x: torch.Tensor, response: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own, following = type(layer).decide(layer, x, response)
        layer.drawn = getattr(layer, "drawn", 0) + 1
        key = (*own.shape[2:], layer.drawn % 4)
        if key not in drawn:
            drawn[key] = blobs(*own.shape[2:], share, seed=key[2])
        return drawn[key].expand(len(own), -1, -1, -1).contiguous(), following

    for layer in network.modules():
        if isinstance(layer, GatedConv2d):
            layer.decide = decide.__get__(layer)


@torch.no_grad()
def run(network: torch.nn.Module, frames: list[torch.Tensor], masks: torch.Tensor, every: int, clock) -> list[float]:
    """Seconds of each frame after the first period of ``every`` frames."""
    state = network.start(frames[0], masks)
    seconds = []
    for t, frame in enumerate(frames[1:], 1):
        begin = clock()
        probabilities = network.step(state, frame, memory_frame=t % every == 0)
        if t % every == 0:
            network.memorize(state, frame, probabilities)
        seconds.append(clock() - begin)
    return seconds[every:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.05, help="of the positions computed on sparse frames")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--periods", type=int, default=2, help="of --every frames a round; the first is not timed")
    parser.add_argument("--every", type=int, default=5, help="frames from one memorised frame to the next")
    parser.add_argument("--processor-time", action="store_true", help="on one thread, for machines that are not quiet")
    parser.add_argument("--out", type=Path, help="file of the result, if not in benchmarks/results")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    if options.processor_time:
        torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    dense = spvos.build("stcn", memory_frames=5).eval()
    sparse = spvos.build("spvos_triple", memory_frames=5).eval()
    sparse.load_state_dict(dense.state_dict(), strict=False)
    video = [Video(options.every * 20 + 1, options.objects)]
    flops = [average(network, options.share, videos=video)["total"] for network in (dense, sparse)]
    precision = {"float32": "fp32", "bfloat16": "bf16"}[options.dtype]
    networks = [prepare(network, precision) for network in (dense, sparse)]
    overrule(networks[1], options.share)
    frames = [
        torch.randn(1, 3, 480, 864).to(dtype, memory_format=torch.channels_last)
        for _ in range(options.periods * options.every + 1)
    ]
    columns = 864 // options.objects
    masks = torch.stack(
        [F.pad(torch.ones(480, columns), (i * columns, 864 - (i + 1) * columns)) for i in range(options.objects)]
    )
    for network in networks:
        run(network, frames, masks, options.every, clock)
    seconds: list[list[float]] = [[], []]
    for _ in range(options.rounds):
        for times, network in zip(seconds, networks):
            times.append(statistics.mean(run(network, frames, masks, options.every, clock)))
    medians = [statistics.median(times) for times in seconds]
    result = {
        "question": __doc__.splitlines()[0],
        "command": f"python benchmarks/sparse_tracking.py --dtype {options.dtype} --objects {options.objects}"
        + " --processor-time" * options.processor_time,
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "clock": "processor time" if options.processor_time else "wall",
        "torch": torch.__version__,
        "kernels": ops.native.why_missing() or ops.native.instruction_set(),
        "dtype": options.dtype,
        "objects": options.objects,
        "seconds a frame, dense": [round(s, 4) for s in seconds[0]],
        "seconds a frame, sparse": [round(s, 4) for s in seconds[1]],
        "speed-up": round(medians[0] / medians[1], 3),
        "ratio of FLOPs": round(flops[0] / flops[1], 3),
    }
    print(json.dumps(result, indent=1))
    out = options.out or RESULTS / f"sparse_tracking-{options.dtype}-{options.objects}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
