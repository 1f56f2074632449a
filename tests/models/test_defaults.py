"""What "default" is on which machine."""

from __future__ import annotations

import pytest
import torch

from pliant.errors import UnknownNameError
from pliant.models import load, resolve


@pytest.mark.parametrize(
    ("gpu", "amx", "name"),
    [(False, False, "spvos_light"), (False, True, "spvos_small"), (True, False, "spvos_small")],
)
def test_the_default_tracker_goes_by_where_bfloat16_is_fast(gpu, amx, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve() == name and resolve(task="salient") == "salient_small"
    assert load().preset.encoder == ("mobilenet_v2" if name == "spvos_light" else "resnet50")


def test_a_name_stays_itself_and_a_wrong_one_is_refused():
    assert resolve("stcn") == "stcn"
    with pytest.raises(UnknownNameError, match="spvos_lite"):
        resolve("spvos_lite")
    with pytest.raises(UnknownNameError, match="default"):
        resolve(task="instances")
