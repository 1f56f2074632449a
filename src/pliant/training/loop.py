"""The one training loop: every family trains through it, a recipe says what is its own.

bf16 autocast, gradient clipping, an exponential moving average of the weights, exact resume (data are a
function of the step, so that a run continues as if it had not stopped), TensorBoard where installed, a time
limit. Under ``torchrun`` each process takes its share of every batch (DDP).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pliant.errors import OutputError, WeightsError
from pliant.nn.memory_format import channels_last

__all__ = ["Recipe", "Settings", "StepReport", "train"]


class Recipe(Protocol):
    """What a family brings to the loop.

    A recipe may also have ``schedule(progress) -> factor`` on the learning rate, in place of the loop's own.
    """

    name: str

    def build(self) -> nn.Module:
        """The network with its initial weights."""

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Groups for AdamW: {"params": [...], "scale": factor on the learning rate, "weight_decay":
        optional}.
        """

    def sample(self, step: int, index: int, progress: float) -> dict[str, Any]:
        """Sample ``index`` of the batch of ``step``: arrays to be stacked; a function of its arguments alone.

        Runs in worker processes. ``progress`` in [0, 1] drives a curriculum; samples of one step have equal
        shapes.
        """

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised, the others are logged. ``network`` may be a DDP wrapper."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How long and how fast. Times in minutes.

    steps: the schedule's length. finish_in: let the schedule follow the clock instead and end after this
    time. time_limit: stop (with a checkpoint) after this time, wherever the schedule is. precision: "bf16"
    or "fp32".
    """

    steps: int = 20_000
    batch_size: int = 8
    learning_rate: float = 2e-4
    warmup: int = 100
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    average: float = 0.999  # decay of the moving average of the weights
    precision: str = "bf16"
    workers: int = 2
    seed: int = 0
    checkpoint_every: float = 3.0
    finish_in: float | None = None
    time_limit: float | None = None


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What a step gave: losses by name, its number, share of the schedule, seconds a step, seconds left."""

    step: int
    progress: float
    losses: dict[str, float]
    seconds_per_step: float
    seconds_left: float


def train(
    recipe: Recipe,
    out: str | Path,
    settings: Settings,
    *,
    resume: bool = True,
    on_step: Callable[[StepReport], None] | None = None,
) -> nn.Module:
    """Train ``recipe`` into the folder ``out`` and return the averaged network.

    ``out`` receives ``checkpoint.pt`` (everything a resumed run needs), ``weights.safetensors`` (the
    averaged weights, float32), ``settings.json`` and TensorBoard logs. A run found there is continued where
    ``resume``. Raises ``OutputError`` where ``out`` holds another recipe's run or cannot be written,
    ``FloatingPointError`` where the loss is not finite for 20 steps on end.
    """
    rank, world = _join()
    out = Path(out)
    run = _Run(recipe, out, settings, rank, world)
    if resume:
        run.restore()
    try:
        run.go(on_step)
    finally:
        if world > 1:
            distributed.barrier()
    return run.average


class _Run:
    """The state of a run: network, average, optimiser, step and the time spent."""

    def __init__(self, recipe: Recipe, out: Path, settings: Settings, rank: int, world: int) -> None:
        if settings.batch_size % world:
            raise ValueError(f"a batch of {settings.batch_size} cannot be shared by {world} processes.")
        self.recipe, self.out, self.settings, self.rank, self.world = recipe, out, settings, rank, world
        self.device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
        torch.manual_seed(settings.seed)
        self.network = channels_last(recipe.build().to(self.device))
        self.average = recipe.build().to(self.device).eval().requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        groups = recipe.parameter_groups(self.network)
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.step, self.elapsed = 0, 0.0
        if rank == 0:
            try:
                out.mkdir(parents=True, exist_ok=True)
                (out / "settings.json").write_text(
                    json.dumps({"recipe": recipe.name, **dataclasses.asdict(settings)}, indent=1)
                )
            except OSError as error:
                raise OutputError(f"cannot write into {out}: {error.strerror}.") from error

    def restore(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["recipe"] != self.recipe.name:
            raise OutputError(f"{self.out} holds a run of {state['recipe']!r}, not of {self.recipe.name!r}.")
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"{path} is of another network: {str(error).splitlines()[0]}") from error
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self) -> None:
        if self.rank:
            return
        from safetensors.torch import save_file

        state = {
            "recipe": self.recipe.name,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        partial = self.out / "checkpoint.pt.partial"
        torch.save(state, partial)
        partial.replace(self.out / "checkpoint.pt")
        weights = {key: value.contiguous().cpu() for key, value in self.average.state_dict().items()}
        partial = self.out / "weights.safetensors.partial"
        save_file(weights, partial)
        partial.replace(self.out / "weights.safetensors")

    def go(self, on_step: Callable[[StepReport], None] | None) -> None:
        settings = self.settings
        model = self.network.train()
        if self.world > 1:
            model = nn.parallel.DistributedDataParallel(model)
        writer = _tensorboard(self.out) if self.rank == 0 else None
        start, spent = time.monotonic(), self.elapsed
        saved, bad, last_time = start, 0, start
        seconds = 0.0
        for batch in self._batches(spent):
            progress = float(batch.pop("_progress")[0])
            report = self._step(model, batch, progress)
            self.step += 1
            now = time.monotonic()
            self.elapsed = spent + now - start
            seconds = 0.9 * seconds + 0.1 * (now - last_time) if seconds else now - last_time
            last_time = now
            bad = 0 if math.isfinite(report["loss"]) else bad + 1
            if bad == 20:
                raise FloatingPointError(f"the loss was not finite for 20 steps before step {self.step}.")
            if writer and self.step % 10 == 0:
                for name, value in report.items():
                    writer.add_scalar(name, value, self.step)
            over = settings.time_limit is not None and self.elapsed > 60 * settings.time_limit
            done, over = self._agree(progress >= 1.0, over)
            if on_step and self.rank == 0:
                on_step(StepReport(self.step, progress, report, seconds, self._left(progress, seconds)))
            if done or over or now - saved > 60 * settings.checkpoint_every:
                self.save()
                saved = now
            if done or over:
                break
        if writer:
            writer.close()

    def _step(self, model: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, float]:
        settings = self.settings
        schedule = getattr(self.recipe, "schedule", None)
        factor = schedule(progress) if schedule else _schedule(self.step, progress, settings.warmup)
        rate = settings.learning_rate * factor
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        half = settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            losses = self.recipe.loss(model, batch, progress)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        if torch.isfinite(norm):
            self.optimiser.step()
        decay = min(settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            ours, theirs = list(self.average.state_dict().values()), list(self.network.state_dict().values())
            floats = [i for i, value in enumerate(ours) if value.is_floating_point()]
            torch._foreach_lerp_([ours[i] for i in floats], [theirs[i] for i in floats], 1 - decay)
        report = {name: float(value.detach()) for name, value in losses.items()}
        return {**report, "gradient_norm": float(norm), "learning_rate": rate}

    def _batches(self, spent: float) -> Iterator[dict[str, Tensor]]:
        import cv2

        settings = self.settings
        # Workers are forked: one that inherits OpenCV's threads (decoding footage started them) hangs or crashes.
        cv2.setNumThreads(1)
        source = _Samples(self.recipe, settings, self.rank, self.world, spent, time.time())
        sampler = _Endless(self.step, settings.batch_size // self.world)
        loader = DataLoader(
            source,
            batch_sampler=sampler,
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            prefetch_factor=2 if settings.workers else None,
            worker_init_fn=_single_thread,
        )
        return iter(loader)

    def _agree(self, *flags: bool) -> tuple[bool, ...]:
        """Whether any process says so, the same answer in all."""
        if self.world == 1:
            return flags
        votes = torch.tensor([float(flag) for flag in flags])
        distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes)

    def _left(self, progress: float, seconds: float) -> float:
        settings = self.settings
        left = (settings.steps - self.step) * seconds
        if settings.finish_in is not None:
            left = 60 * settings.finish_in - self.elapsed
        if settings.time_limit is not None:
            left = min(left, 60 * settings.time_limit - self.elapsed)
        return max(0.0, left)


@dataclasses.dataclass
class _Samples(Dataset):
    """Samples by (step, index of the batch); progress follows the step or the clock."""

    recipe: Recipe
    settings: Settings
    rank: int
    world: int
    spent: float
    started: float

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        step, index = key
        if self.settings.finish_in is None:
            progress = min(1.0, (step + 1) / self.settings.steps)
            stage = progress
        else:
            progress = min(1.0, (self.spent + time.time() - self.started) / (60 * self.settings.finish_in))
            # Samples of one step must agree on the curriculum's stage, which the clock cannot promise: by steps.
            stage = min(1.0, step / self.settings.steps)
        sample = self.recipe.sample(step, self.rank * self.settings.batch_size // self.world + index, stage)
        return {**sample, "_progress": torch.tensor(progress)}


@dataclasses.dataclass
class _Endless:
    """Batches of (step, index) from ``step`` on, without end."""

    step: int
    size: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.step
        while True:
            yield [(step, index) for index in range(self.size)]
            step += 1


def _schedule(step: int, progress: float, warmup: int) -> float:
    """Linear warm-up, constant, then half a cosine to 2 % over the last 60 % of the schedule."""
    fall = max(0.0, (progress - 0.4) / 0.6)
    return min(1.0, (step + 1) / max(1, warmup)) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall))))


def _single_thread(_: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _join() -> tuple[int, int]:
    """(rank, world size) under torchrun, (0, 1) otherwise."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_rank(), distributed.get_world_size()


def _tensorboard(out: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))
