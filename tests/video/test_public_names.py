"""What ``pliant.video`` promises is there, and nothing heavy loads before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pliant.video


@pytest.mark.parametrize("name", pliant.video.__all__)
def test_every_public_name_is_there(name):
    assert getattr(pliant.video, name).__name__ == name


def test_other_names_are_told():
    with pytest.raises(AttributeError, match="module 'pliant.video' has no attribute 'raed'"):
        pliant.video.raed  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pliant.video", ["av", "cv2", "torch", "scipy"]),
        ("from pliant.video import read_masks, write_mask", ["av", "cv2", "torch", "scipy"]),
        ("from pliant.video import read, ResultWriter, mask_from_box", ["torch"]),
    ],
)
def test_nothing_heavy_loads_early(statement, absent):
    code = f"{statement}\nimport sys\nprint([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
