"""MobileNetV2 to 1/16: sizes, strips change nothing, torchvision's weights fold in, other files are named."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant.errors import WeightsError
from pliant.models.backbones import mobilenet_v2
from pliant.models.backbones.mobilenet_v2 import MobileNetV2Trunk, read_mobilenet_v2


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return MobileNetV2Trunk().eval()


def test_features_have_the_sizes_promised(trunk):
    with torch.no_grad():
        features = trunk(torch.randn(2, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [(2, 144, 16, 24), (2, 192, 8, 12), (2, 576, 4, 6)]
    assert all(f.min() >= 0 and f.max() <= 6 for f in features)


@pytest.mark.parametrize("rows", [32, 48, 80])
def test_strips_give_what_the_whole_gives(trunk, rows, monkeypatch):
    image = torch.randn(1, 3, rows, 64)
    whole = [f.detach() for f in trunk(image)]  # with gradients nothing is cut
    monkeypatch.setattr(mobilenet_v2, "_STRIP", 4000)
    with torch.no_grad():
        strips = trunk(image)
    for found, wanted in zip(strips, whole):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def _torchvision_state() -> dict[str, torch.Tensor]:
    """Random weights under torchvision's names, up to what the trunk reads."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def layer(name: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        shape = outputs, inputs, kernel, kernel
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / (inputs * kernel**2) ** 0.5
        state[f"{norm}.weight"] = 1 + 0.1 * torch.randn(outputs, generator=generator)
        state[f"{norm}.bias"] = torch.randn(outputs, generator=generator)
        state[f"{norm}.running_mean"] = 0.1 * torch.randn(outputs, generator=generator)
        state[f"{norm}.running_var"] = 0.5 + torch.rand(outputs, generator=generator)

    layer("features.0.0", "features.0.1", 32, 3, 3)
    inputs = 32
    for index, (expansion, outputs, _) in enumerate(mobilenet_v2._ROWS, start=1):
        conv, hidden = f"features.{index}.conv", inputs * expansion
        if expansion > 1:
            layer(f"{conv}.0.0", f"{conv}.0.1", hidden, inputs, 1)
            layer(f"{conv}.1.0", f"{conv}.1.1", hidden, 1, 3)
            layer(f"{conv}.2", f"{conv}.3", outputs, hidden, 1)
        else:
            layer(f"{conv}.0.0", f"{conv}.0.1", hidden, 1, 3)
            layer(f"{conv}.1", f"{conv}.2", outputs, hidden, 1)
        inputs = outputs
    layer("features.14.conv.0.0", "features.14.conv.0.1", 576, 96, 1)
    return state


def test_batch_norms_fold_into_the_convolutions(tmp_path):
    """The first three layers with their norms as torchvision runs them, against the folded ones."""
    state = _torchvision_state()
    torch.save(state, tmp_path / "mobilenet.pth")
    trunk = MobileNetV2Trunk().eval()
    trunk.load_state_dict(read_mobilenet_v2(tmp_path / "mobilenet.pth"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"])

    image = torch.randn(1, 3, 32, 32)
    x = F.relu6(norm(F.conv2d(image, state["features.0.0.weight"], stride=2, padding=1), "features.0.1"))
    y = F.conv2d(x, state["features.1.conv.0.0.weight"], padding=1, groups=32)
    y = F.relu6(norm(y, "features.1.conv.0.1"))
    y = norm(F.conv2d(y, state["features.1.conv.1.weight"]), "features.1.conv.2")
    with torch.no_grad():
        found = trunk.blocks[0](F.relu6(trunk.stem(image)))
    torch.testing.assert_close(found, y, atol=1e-5, rtol=1e-5)


def test_another_file_is_named(tmp_path):
    torch.save({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="not a MobileNetV2 .* features.0.1.weight is missing"):
        read_mobilenet_v2(tmp_path / "x.pth")
