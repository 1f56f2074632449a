"""The training loop: it learns, stops in time, and a resumed run is the run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from pliant.errors import OutputError
from pliant.training.loop import Settings, train


@dataclass(frozen=True)
class Line:
    """Learn y = 2 x - 1."""

    name: str = "line"
    broken: bool = False

    def build(self):
        return nn.Linear(1, 1)

    def parameter_groups(self, network):
        return [{"params": list(network.parameters()), "weight_decay": 0.0}]

    def sample(self, step, index, progress):
        x = np.random.default_rng([step, index]).normal(size=1).astype(np.float32)
        return {"x": x, "y": 2 * x - 1}

    def loss(self, network, batch, progress):
        error = (network(batch["x"]).float() - batch["y"]).square().mean()
        return {"loss": error * float("nan") if self.broken else error, "error": error}


SETTINGS = Settings(steps=60, batch_size=8, learning_rate=0.1, warmup=5, average=0.9, precision="fp32", workers=0)


def test_it_learns(tmp_path):
    network = train(Line(), tmp_path / "run", SETTINGS)
    assert network.weight.item() == pytest.approx(2, abs=0.2)
    assert network.bias.item() == pytest.approx(-1, abs=0.2)


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path):
    whole = train(Line(), tmp_path / "whole", SETTINGS)

    class Stop(Exception):
        pass

    def stop(report):
        if report.step == 25:
            raise Stop

    often = Settings(**{**SETTINGS.__dict__, "checkpoint_every": 0.0})
    with pytest.raises(Stop):
        train(Line(), tmp_path / "cut", often, on_step=stop)
    steps = []
    again = train(Line(), tmp_path / "cut", often, on_step=lambda r: steps.append(r.step))
    assert steps[0] == 25, "the step that was not saved is done again"
    assert torch.equal(whole.weight, again.weight) and torch.equal(whole.bias, again.bias)


def test_a_time_limit_ends_with_a_checkpoint(tmp_path):
    train(Line(), tmp_path / "run", Settings(**{**SETTINGS.__dict__, "time_limit": 0.0}))
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_another_recipe_s_folder_is_not_touched(tmp_path):
    train(Line(), tmp_path / "run", Settings(**{**SETTINGS.__dict__, "steps": 2}))
    with pytest.raises(OutputError, match="holds a run of 'line', not of 'other'"):
        train(Line(name="other"), tmp_path / "run", SETTINGS)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="20 steps"):
        train(Line(broken=True), tmp_path / "run", SETTINGS)
