"""Which arithmetic "auto" means on which machine."""

from __future__ import annotations

import pytest
import torch

from pliant.inference.frames import resolve_precision


@pytest.mark.parametrize(
    ("amx", "native", "device", "dtype"),
    [
        (True, True, "cpu", torch.bfloat16),
        (False, True, "cpu", torch.bfloat16),
        (False, False, "cpu", torch.float32),
        (False, False, "cuda", torch.bfloat16),
    ],
)
def test_bfloat16_where_the_machine_multiplies_it_natively(amx, native, device, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert resolve_precision("auto", device) is dtype
    assert resolve_precision("fp32", device) is torch.float32 and resolve_precision("bf16") is torch.bfloat16


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="auto, bf16 or fp32, got 'half'"):
        resolve_precision("half")
