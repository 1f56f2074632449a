"""The README's snippets run, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"<!-- snippet -->\n```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """clip.mp4 of four frames and first.png in the current folder."""
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((64, 96), np.uint8)
    labels[20:44, 30:60] = 1
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for t in range(4):
            image = np.full((64, 96, 3), 60, np.uint8)
            image[20:44, 30 + 2 * t : 60 + 2 * t] = (200, 40, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    cv2.imwrite("first.png", 255 * labels)
    return labels


@pytest.mark.parametrize("code", SNIPPETS, ids=[str(i) for i in range(len(SNIPPETS))])
def test_every_snippet_runs(code, clip, capsys):
    exec(compile(code, "README.md", "exec"), {"first_labels": clip})


def test_there_are_snippets():
    assert len(SNIPPETS) == 3


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists(), f"README.md links to {link}, which is not there"
