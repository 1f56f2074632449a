"""Unlabelled clips: what is found, where it is cut, and which pairs are drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import shared
from pliant.datasets.unlabelled import Footage, FramePairs, find_shots, find_sources
from pliant.errors import DatasetError


def scene(seed: int, frames: int, size: tuple[int, int] = (48, 64), speed: int = 2) -> np.ndarray:
    """[T, H, W, 3]: a camera that pans over a smooth random picture; frame t shows it from column speed * t
    on.
    """
    random = np.random.default_rng(seed)
    wide = np.clip(random.integers(0, 256, 3) + random.integers(-50, 51, (6, 24, 3)), 0, 255).astype(np.uint8)
    wide = cv2.resize(wide, (size[1] + speed * frames, size[0]), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, speed * t : speed * t + size[1]] for t in range(frames)])


def write_images(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:05d}.png"), frame[..., ::-1])


@pytest.fixture
def clips(tmp_path: Path) -> Footage:
    """Two image sequences: one of two shots of 8 and 6 frames, one of a single shot of 5."""
    write_images(tmp_path / "clips" / "two", np.concatenate((scene(1, 8), scene(2, 6))))
    write_images(tmp_path / "clips" / "one", scene(3, 5))
    return Footage([tmp_path / "clips"], 48, cache=tmp_path / "cache")


def test_videos_and_image_sequences_are_found_and_masks_are_not(tmp_path: Path):
    write_images(tmp_path / "JPEGImages" / "a", scene(0, 2))
    write_images(tmp_path / "Annotations" / "a", scene(0, 2))
    write_images(tmp_path / "single", scene(0, 1))
    (tmp_path / "film.MP4").touch()
    assert find_sources([tmp_path]) == [tmp_path / "JPEGImages" / "a", tmp_path / "film.MP4"]
    assert find_sources([tmp_path / "film.MP4", tmp_path / "film.MP4"]) == [tmp_path / "film.MP4"]


def test_an_empty_folder_says_so(tmp_path: Path):
    with pytest.raises(DatasetError, match="holds no video file and no folder with at least two images"):
        find_sources([tmp_path])
    with pytest.raises(DatasetError, match="missing: no such file or folder"):
        find_sources([tmp_path / "missing"])


def test_cuts_are_found_and_fast_motion_is_none():
    thumbnails = np.concatenate((scene(1, 8), scene(2, 6), scene(4, 6, speed=4)))
    assert find_shots(thumbnails) == [(0, 8), (8, 14), (14, 20)]
    assert find_shots(thumbnails[:1]) == [(0, 1)] and find_shots(thumbnails[:0]) == []


def test_cuts_between_real_sequences():
    names = (
        "blackswan",
        "car-shadow",
        "drift-chicane",
        "dog",
        "libby",
        "camel",
        "bmx-trees",
        "horsejump-high",
    )
    sequences, ends = [], []
    for name in names:
        folder = shared("data", "davis-dev", "JPEGImages", "480p", name)
        frames = [cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_8) for path in sorted(folder.iterdir())]
        sequences += [cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA) for frame in frames]
        ends.append(len(sequences))
    assert find_shots(np.stack(sequences)) == list(zip([0, *ends[:-1]], ends))


def test_frames_come_small_and_as_they_were(tmp_path: Path, clips: Footage):
    assert sorted(last - first for _, first, last in clips.shots) == [5, 6, 8]
    assert "2 clips, 3 shots, 19 frames" in repr(clips)
    frame = clips.frame(0, 3)
    assert frame.shape == (48, 64, 3)
    assert np.abs(frame.astype(int) - scene(3, 5)[3]).mean() < 3
    small = Footage([tmp_path / "clips"], 24, cache=tmp_path / "cache")
    assert small.frame(0, 0).shape == (24, 32, 3)


def test_a_clip_is_decoded_once(tmp_path: Path, clips: Footage):
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(files) == 4 and not [path for path in files if path.suffix == ".tmp"]
    Footage([tmp_path / "clips"], 48, cache=tmp_path / "cache")
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}


def test_a_broken_file_is_left_out_with_a_warning(tmp_path: Path, clips: Footage, caplog):
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    again = Footage([tmp_path / "clips"], 48, cache=tmp_path / "cache")
    assert len(again.shots) == 3 and "broken.mp4" in caplog.text and "left out" in caplog.text


def test_a_folder_of_stills_has_no_pairs(tmp_path: Path):
    write_images(tmp_path / "stills", np.concatenate([scene(seed, 1) for seed in range(4)]))
    with pytest.raises(DatasetError, match="no two frames of one shot in 1 clips"):
        Footage([tmp_path], 48, cache=tmp_path / "cache")


def draw(pairs: FramePairs, seed: int, progress: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    return pairs.draw(np.random.default_rng(seed), progress)


def test_a_generator_gives_its_pair(clips: Footage):
    pairs = FramePairs(clips, 32)
    target, reference = draw(pairs, 17)
    assert target.shape == reference.shape == (32, 32, 3) and target.dtype == np.uint8
    assert np.array_equal(target, draw(pairs, 17)[0]) and np.array_equal(reference, draw(pairs, 17)[1])
    assert not np.array_equal(target, draw(pairs, 18)[0])


def pan(target: np.ndarray, reference: np.ndarray) -> int:
    """By how many columns the reference shows what the target shows further to the right."""
    size, errors = target.shape[1], {}
    for shift in range(-8, 9):
        a = target[:, max(0, -shift) : size - max(0, shift)].astype(int)
        b = reference[:, max(0, shift) : size - max(0, -shift)].astype(int)
        errors[shift] = np.abs(a - b).mean()
    return min(errors, key=errors.get)


def test_pairs_stay_inside_a_shot_and_gaps_grow(clips: Footage):
    pairs = FramePairs(clips, 32, max_gap=3)  # the pictures pan by 2 columns a frame
    early = [pan(*draw(pairs, seed, 0.2)) for seed in range(40)]
    late = [pan(*draw(pairs, seed, 0.5)) for seed in range(80)]
    assert set(early) == {-2, 2}  # neighbours, in both directions of time
    assert {abs(move) for move in late} == {2, 4, 6}


def test_static_pairs_are_drawn_again(tmp_path: Path):
    moving = scene(4, 6)
    write_images(tmp_path / "clips" / "a", np.concatenate((np.repeat(moving[:1], 20, 0), moving)))
    frames = Footage([tmp_path / "clips"], 48, cache=tmp_path / "cache")
    pairs = FramePairs(frames, 32)
    still = sum(np.array_equal(*draw(pairs, seed)) for seed in range(40))
    assert still <= 12  # (19 / 25)^8 of 40 is 4, where 30 would be without


def test_small_frames_are_enlarged_to_the_crop(clips: Footage):
    assert draw(FramePairs(clips, 64), 0)[0].shape == (64, 64, 3)
