"""The command, end to end, on clips that the tests make."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pliant.models import build, resolve

FRAMES = 12


def scene(t: int, height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A textured square on another texture, 4 pixels to the right a frame."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(40, 120, (12, 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    thing = cv2.resize(rng.integers(150, 255, (6, 6, 3), np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.uint8)
    x = 20 + 4 * t
    ground[30:78, x : x + 48] = thing
    mask[30:78, x : x + 48] = 255
    return ground, mask


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for t in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(t)[0], format="rgb24")))
        container.mux(stream.encode(None))
    cv2.imwrite(str(folder / "first.png"), scene(0)[1])
    return folder


def pliant(*arguments, check: bool = False, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "pliant", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=check, **options)


@pytest.fixture(scope="module")
def result(material):
    done = pliant(
        "track", material / "clip.mp4", "--mask", material / "first.png", "-o", material / "out", "--size", 120
    )
    assert done.returncode == 0, done.stderr
    return material / "out", done


def test_the_main_job_follows_the_object_and_says_where_the_results_are(result):
    out, done = result
    names = sorted(path.name for path in (out / "masks").iterdir())
    assert names == [f"{t:05d}.png" for t in range(FRAMES)]
    for t in range(FRAMES):
        found, truth = np.array(Image.open(out / "masks" / names[t])) > 0, scene(t)[1] > 0
        assert (found & truth).sum() / (found | truth).sum() > 0.75, f"frame {t}"
    assert f"seen in {FRAMES} of {FRAMES} frames" in done.stdout
    for file in ("overlay.mp4", "contact_sheet.png", "masks"):
        assert str(out / file) in done.stdout


def test_the_summary_holds_what_happened(result):
    summary = json.loads((result[0] / "summary.json").read_text())
    assert summary["frames"] == FRAMES and summary["model"] == resolve()
    assert summary["objects"]["1"]["lost"] == [] and summary["objects"]["1"]["mean_confidence"] > 0.5


def test_results_are_not_replaced_unless_asked(material, result):
    again = pliant("track", material / "clip.mp4", "--mask", material / "first.png", "-o", result[0])
    assert again.returncode == 1
    assert "already holds results" in again.stderr and "--overwrite" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.slow
def test_an_interrupted_run_continues_to_the_same_result(material, result, tmp_path):
    arguments = [
        "track",
        material / "clip.mp4",
        "--mask",
        material / "first.png",
        "-o",
        tmp_path / "out",
        "--size",
        "120",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pliant", *map(str, arguments)], env=environment, stderr=subprocess.PIPE, text=True
    )
    masks = tmp_path / "out" / "masks"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(masks.glob("0*.png"))) < 4 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert not list(masks.glob(".*")), "no half file is left"
    if process.returncode != 0:  # a fast machine may have finished
        assert "interrupted" in errors
        assert not (tmp_path / "out" / "summary.json").exists()
    done = pliant(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    for path in (result[0] / "masks").iterdir():
        assert path.read_bytes() == (masks / path.name).read_bytes()
    a, b = (json.loads((folder / "results.json").read_text()) for folder in (result[0], tmp_path / "out"))
    assert a == b


def test_nothing_marked_what_is_salient_is_followed(material, tmp_path):
    """A network that finds everything salient, whatever it sees."""
    network = build("salient_small")
    torch.nn.init.zeros_(network.prediction.weight)
    torch.nn.init.constant_(network.prediction.bias, 5.0)
    save_file(network.state_dict(), tmp_path / "all.safetensors", {"model": "salient_small"})
    done = pliant(
        "track", material / "clip.mp4", "--auto", "--auto-weights", tmp_path / "all.safetensors",
        "-o", tmp_path / "out", "--size", 120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (np.array(Image.open(tmp_path / "out" / "masks" / "00000.png")) == 1).all()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == FRAMES


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["clip.mp4", "-o", "x"], 2, "mark what to follow: --mask FILE, --box x0,y0,x1,y1, or --auto."),
        (["clip.mp4", "-o", "x", "--auto", "--mask", "m.png"], 2, "leave --mask and --box out"),
        (["--source", "camera:0", "-o", "x", "--auto"], 2, "a live source does not allow: give CLIP."),
        (["--mask", "first.png", "-o", "x"], 2, "give one source"),
        (["clip.mp4", "--box", "1,2,3", "-o", "x"], 2, "expected x0,y0,x1,y1[@FRAME]"),
        (["nothing.mp4", "--mask", "first.png", "-o", "x"], 1, "nothing.mp4"),
        (["clip.mp4", "--mask", "nothing.png", "-o", "x"], 1, "nothing.png"),
        (["first.txt", "--mask", "first.png", "-o", "x"], 1, "first.txt"),
        (["clip.mp4", "--mask", "first.png", "-o", "x", "--model", "spvos_smal"], 1, "did you mean spvos_small"),
        (["clip.mp4", "--mask", "first.png", "-o", "x", "--weights", "first.png"], 1, "is a PNG image"),
        (["clip.mp4", "--mask", "empty.png", "-o", "x"], 1, "empty.png"),
    ],
)
def test_what_is_wrong_is_one_sentence(material, arguments, code, message):
    (material / "first.txt").write_text("not a video")
    cv2.imwrite(str(material / "empty.png"), np.zeros((120, 160), np.uint8))
    done = pliant("track", *arguments, cwd=material)
    assert done.returncode == code
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_dataset_is_tracked_and_scored(tmp_path):
    root = tmp_path / "DAVIS"
    for name in ("one", "two"):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for t in range(5):
            image, mask = scene(t)
            cv2.imwrite(str(root / "JPEGImages/480p" / name / f"{t:05d}.jpg"), image[:, :, ::-1])
            Image.fromarray((mask > 0).astype(np.uint8)).save(root / "Annotations/480p" / name / f"{t:05d}.png")
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("one\ntwo\n")
    done = pliant("track-dataset", root, "--set", "val", "-o", tmp_path / "results", "--size", 120)
    assert done.returncode == 0, done.stderr
    score = pliant(
        "evaluate", "davis2017", "--gt", root, "--results", tmp_path / "results", "--json", tmp_path / "s.json"
    )
    assert score.returncode == 0, score.stderr
    assert json.loads((tmp_path / "s.json").read_text())["summary"]["J-Mean"] > 0.7
    again = pliant("track-dataset", root, "--set", "val", "-o", tmp_path / "results")
    assert again.returncode == 1 and "--resume" in again.stderr
