"""Every layout on a tiny copy of its own: frames, labels and objects come out as they were put in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pliant.datasets import Clip, davis, kitti_mots, youtube_vis, youtube_vos
from pliant.errors import DatasetError, SourceError
from pliant.metrics.runs import from_mask
from pliant.video import rle
from pliant.video.masks import write_mask

LABELS = np.zeros((3, 24, 33), np.uint8)
LABELS[:, 3:11, 2:14] = 1
LABELS[1:, 12:20, 10:30] = 2


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 33, 3), value, np.uint8)).save(path)


def write_labels(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, labels)


def assert_is_clip(clip: Clip, name: str, ids: tuple[int, ...], frames: int = 3) -> None:
    """What every reader promises."""
    assert clip.name == name and clip.ids == ids and len(clip) == frames
    image = clip.frame(frames - 1)
    assert image.shape == (24, 33, 3) and image.dtype == np.uint8
    assert abs(int(image.mean()) - 40 * (frames - 1)) < 3
    for index in clip.annotated:
        labels = clip.labels(index)
        assert labels.shape == (24, 33) and labels.dtype == np.uint8
    assert len(list(clip)) == frames
    assert f"{frames} frames" in repr(clip) and name in repr(clip)


def davis_root(root: Path, folder: str = "Annotations", year: int = 2017, split: str = "train") -> Path:
    for index, labels in enumerate(LABELS[::-1]):
        write_image(root / f"JPEGImages/480p/bear/{index:05d}.jpg", 40 * index)
        write_labels(root / f"{folder}/480p/bear/{index:05d}.png", labels)
    (root / f"ImageSets/{year}").mkdir(parents=True)
    (root / f"ImageSets/{year}/{split}.txt").write_text("bear\n\n")
    return root


def test_davis_2017(tmp_path):
    (clip,) = davis.clips(davis_root(tmp_path))
    assert_is_clip(clip, "bear", (1, 2))
    assert all(np.array_equal(clip.labels(index), LABELS[2 - index]) for index in range(3))


def test_davis_test_set_has_the_first_mask_only(tmp_path):
    root = davis_root(tmp_path, split="test-dev")
    for index in (1, 2):
        (root / f"Annotations/480p/bear/{index:05d}.png").unlink()
    (clip,) = davis.clips(root, "test-dev")
    assert_is_clip(clip, "bear", (1, 2))
    assert clip.annotated == (0,) and clip.labels(1) is None


def test_davis_2016_makes_one_object_of_all_ids_and_of_255(tmp_path):
    root = davis_root(tmp_path, year=2016)
    Image.fromarray(np.where(LABELS[1] > 0, 255, 0).astype(np.uint8)).save(root / "Annotations/480p/bear/00001.png")
    (clip,) = davis.clips(root, year=2016)
    assert_is_clip(clip, "bear", (1,))
    assert all(np.array_equal(clip.labels(index), LABELS[2 - index] > 0) for index in range(3))


def test_davis_2016_release_lists_pairs_of_paths(tmp_path):
    root = davis_root(tmp_path)
    (root / "ImageSets/480p").mkdir()
    line = "/JPEGImages/480p/bear/{0:05d}.jpg /Annotations/480p/bear/{0:05d}.png\n"
    (root / "ImageSets/480p/train.txt").write_text("".join(line.format(index) for index in range(3)))
    assert [clip.name for clip in davis.clips(root, year=2016)] == ["bear"]


def test_davis_unsupervised_keeps_void(tmp_path):
    root = davis_root(tmp_path, "Annotations_unsupervised", 2019, "test-dev")
    void = LABELS[2].copy()
    void[0, :3] = (254, 255, 0)
    write_labels(root / "Annotations_unsupervised/480p/bear/00000.png", void)
    (clip,) = davis.clips(root, "test-dev", year=2019, unsupervised=True)
    assert_is_clip(clip, "bear", (1, 2))
    assert clip.labels(0)[0, :3].tolist() == [255, 255, 0]


def test_davis_without_a_list_names_it(tmp_path):
    root = davis_root(tmp_path)
    (root / "ImageSets/2017/train.txt").unlink()
    with pytest.raises(DatasetError, match=r"2017/train.txt is missing.*this one holds Annotations, ImageSets, JPEG"):
        davis.clips(root)


def test_davis_wrong_root_says_what_is_expected_and_found(tmp_path):
    (tmp_path / "videos").mkdir()
    with pytest.raises(DatasetError, match=r"Annotations/480p/<sequence>.*this one holds videos"):
        davis.clips(tmp_path)


def youtube_root(root: Path) -> Path:
    for index, frame in enumerate((0, 5, 10)):
        write_image(root / f"JPEGImages/0062f687f1/{frame:05d}.jpg", 40 * index)
    write_labels(root / "Annotations/0062f687f1/00000.png", LABELS[0])
    write_labels(root / "Annotations/0062f687f1/00005.png", LABELS[1])
    objects = {
        "1": {"category": "penguin", "frames": ["00000", "00005", "00010"]},
        "2": {"category": "sign", "frames": ["00005", "00010"]},
    }
    (root / "meta.json").write_text(json.dumps({"videos": {"0062f687f1": {"objects": objects}}}))
    return root


def test_youtube_vos(tmp_path):
    (clip,) = youtube_vos.clips(youtube_root(tmp_path))
    assert_is_clip(clip, "0062f687f1", (1, 2))
    assert clip.annotated == (0, 1) and clip.categories == {1: "penguin", 2: "sign"}
    assert np.array_equal(clip.labels(1), LABELS[1])


def test_youtube_vos_without_meta_takes_the_ids_of_all_masks(tmp_path):
    root = youtube_root(tmp_path)
    (root / "meta.json").unlink()
    assert youtube_vos.clips(root)[0].ids == (1, 2)


def test_youtube_vos_wrong_root(tmp_path):
    youtube_root(tmp_path / "train")
    with pytest.raises(DatasetError, match=r"Annotations/<video>.*this one holds train"):
        youtube_vos.clips(tmp_path)


def test_youtube_vos_broken_meta(tmp_path):
    root = youtube_root(tmp_path)
    (root / "meta.json").write_text('{"videos": {"0062f687f1": []}}')
    with pytest.raises(DatasetError, match=r"meta\.json cannot be used"):
        youtube_vos.clips(root)


def tracks_file(root: Path, image_name: str, **more: object) -> Path:
    """Two tracks, the first as RLE, the second as polygons."""
    names = [f"v1/{image_name.format(index)}" for index in range(3)]
    for index, name in enumerate(names):
        write_image(root / "images" / name, 40 * index)
    codes = [rle.encode(labels == 1) for labels in LABELS]
    box = [10, 12, 30, 12, 30, 20, 10, 20]
    common = {"video_id": 7, "iscrowd": 0, **more}
    document = {
        "videos": [{"id": 7, "height": 24, "width": 33, "length": 3, "file_names": names}],
        "categories": [{"id": 3, "name": "fish"}, {"id": 4, "name": "bird"}],
        "annotations": [
            {"id": 1, "category_id": 3, "segmentations": codes, "areas": [96] * 3, **common},
            {"id": 2, "category_id": 4, "segmentations": [None, [box], [box]], "areas": [None, 160, 160], **common},
        ],
    }
    path = root / "instances.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("image_name", "more"),
    [("{:05d}.jpg", {}), ("img_{:07d}.jpg", {"occlusion": ["no_occlusion", None, "severe_occlusion"]})],
    ids=["youtube-vis", "ovis"],
)
def test_tracks_in_json(image_name, more, tmp_path):
    path = tracks_file(tmp_path, image_name, **more)
    (clip,) = youtube_vis.clips(path, tmp_path / "images")
    assert_is_clip(clip, "v1", (1, 2))
    assert clip.categories == {1: "fish", 2: "bird"}
    assert all(np.array_equal(clip.labels(index), LABELS[index]) for index in range(3))


def test_tracks_without_annotations_say_why(tmp_path):
    path = tracks_file(tmp_path, "{:05d}.jpg")
    document = json.loads(path.read_text())
    del document["annotations"]
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match="only the training files of the official sets"):
        youtube_vis.clips(path, tmp_path / "images")


def test_tracks_with_a_wrong_image_folder(tmp_path):
    path = tracks_file(tmp_path, "{:05d}.jpg")
    with pytest.raises(DatasetError, match=r"has no image .*v1/00000\.jpg"):
        youtube_vis.clips(path, tmp_path)


def mots_root(root: Path, as_text: bool) -> Path:
    """A car, a pedestrian from frame 1, an ignored region."""
    for index, labels in enumerate(LABELS):
        write_image(root / f"image_02/0002/{index:06d}.png", 40 * index)
        values = np.array([0, 1003, 2001], np.uint16)[labels]
        values[22:, :5] = 10000
        if as_text:
            (root / "instances_txt").mkdir(exist_ok=True)
            with open(root / "instances_txt/0002.txt", "a") as file:
                for value in np.unique(values)[1:].tolist():
                    counts = rle.encode(values == value)["counts"]
                    file.write(f"{index} {value} {value // 1000} 24 33 {counts}\n")
        else:
            path = root / f"instances/0002/{index:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return root


@pytest.mark.parametrize("as_text", [False, True], ids=["png", "text"])
def test_kitti_mots(as_text, tmp_path):
    root = mots_root(tmp_path, as_text)
    labels = root / ("instances_txt" if as_text else "instances")
    (clip,) = kitti_mots.clips(root / "image_02", labels, ["0002"])
    assert_is_clip(clip, "0002", (1, 2))
    assert clip.categories == {1: "car", 2: "pedestrian"}
    expected = LABELS.copy()
    expected[:, 22:, :5] = 255
    assert all(np.array_equal(clip.labels(index), expected[index]) for index in range(3))


def test_kitti_mots_objects_know_their_runs(tmp_path):
    root = mots_root(tmp_path, as_text=True)
    frames = kitti_mots.read_sequence(root / "instances_txt", "0002")
    both = [1003, 2001, 10000]
    assert [[item.id for item in frame] for frame in frames] == [[1003, 10000], both, both]
    assert frames[0][0].mask.area == from_mask(LABELS[0] == 1).area == 96


def test_kitti_mots_missing_sequence_names_both_places(tmp_path):
    root = mots_root(tmp_path, as_text=True)
    with pytest.raises(DatasetError, match=r"sequence 0005: neither .*0005\.txt nor a folder"):
        kitti_mots.read_sequence(root / "instances_txt", "0005")


def test_a_broken_image_is_named(tmp_path):
    (clip,) = davis.clips(davis_root(tmp_path))
    clip.frames[1].write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"frame 1 of clip bear, .*00001\.jpg"):
        clip.frame(1)


def test_one_annotation_a_frame():
    with pytest.raises(ValueError, match="2 frames and 1 annotations"):
        Clip("bear", (Path("a"), Path("b")), (None,), ())
