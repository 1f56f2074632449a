"""Where a frame's time goes."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from pliant.cli.profile import profile
from pliant.inference.frames import prepare
from pliant.inference.layer_times import profile_tracking, scene
from pliant.models import spvos

TINY = {"blocks": (1, 1, 1), "memory_frames": 2}


def test_the_scene_shows_as_many_objects_as_asked():
    for image, labels in scene(3, 2):
        assert image.shape == (480, 854, 3) and set(labels.ravel()) == {0, 1, 2}


@pytest.mark.parametrize("name", ["spvos_small", "spvos_small_triple"])
def test_multiply_adds_are_those_of_the_layers(name):
    torch.manual_seed(0)
    network = prepare(spvos.build(name, **TINY), "fp32")
    if name == "spvos_small_triple":
        with torch.no_grad():  # compute everywhere
            for gate in network.gate.values():
                gate.scores.bias[2] = 1000
    found = profile_tracking(network, size=64, frames=3)
    layers = {layer.name: layer for layer in found.layers}
    grid = 4 * 8  # of 64 x 114 pixels at 1/16, padded
    context = layers["context"]
    assert context.part == "Q" and context.gmacs == pytest.approx(9 * 1024 * 128 * grid / 1e9)
    value = layers["value_encoder.value"]  # on one frame of three
    assert value.part == "M" and value.gmacs == pytest.approx(9 * 256 * 128 * grid / 3 / 1e9)
    assert ("gate.layer3.scores" in layers) == (name == "spvos_small_triple")
    assert found.parts["Q"].gmacs == pytest.approx(sum(x.gmacs for x in found.layers if x.part == "Q"))
    assert found.milliseconds > 0
    assert [x.milliseconds for x in found.layers] == sorted((x.milliseconds for x in found.layers), reverse=True)


def test_the_command_prints_layers_and_sums():
    options = ["spvos_small", "--size", "64", "--frames", "2", "--rows", "5", "--precision", "fp32"]
    done = CliRunner().invoke(profile, options)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split() == ["layer", "part", "ms", "a", "frame", "GMAC"]
    assert any(line.startswith("Q, query encoder") for line in lines) and "a whole frame" in lines[-1]
    wrong = CliRunner().invoke(profile, ["d2conv3d"])
    assert wrong.exit_code == 2 and "does not follow objects" in wrong.output
