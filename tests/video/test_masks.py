"""Masks as people have them become labels with the ids they meant; what is written can be read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from conftest import shared
from pliant.errors import MaskError, OutputError
from pliant.video import rle
from pliant.video.masks import from_array, natural_key, read_masks, resize_labels, write_mask
from pliant.video.palette import PALETTE


@pytest.fixture
def two():
    """Two objects on background, [40, 60]."""
    labels = np.zeros((40, 60), np.uint8)
    labels[5:20, 8:30] = 1
    labels[25:38, 35:50] = 2
    return labels


def save(path, array, mode=None, palette=None):
    image = Image.fromarray(array)
    if mode is not None:
        image = image.convert(mode)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)
    return path


def only(given):
    assert list(given.frames) == [0]
    return given.frames[0]


class TestImages:
    def test_indices_are_ids(self, tmp_path, two):
        two[two == 2] = 7
        write_mask(tmp_path / "first.png", two)
        given = read_masks(tmp_path / "first.png", size=(40, 60))
        assert np.array_equal(only(given), two)
        assert given.objects == {1: "index 1", 7: "index 7"}
        assert given.warnings == [] and given.partial == frozenset()

    @pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P"])
    def test_white_on_black_is_one_object(self, tmp_path, two, mode):
        given = read_masks(save(tmp_path / "first.png", np.uint8(255) * (two > 0), mode))
        assert np.array_equal(only(given), two > 0)
        assert given.objects == {1: "white"}

    def test_grey_ids_without_a_palette(self, tmp_path, two):
        given = read_masks(save(tmp_path / "first.png", two))
        assert np.array_equal(only(given), two)

    def test_sixteen_bit_ids(self, tmp_path, two):
        given = read_masks(save(tmp_path / "first.png", two.astype(np.uint16)))
        assert np.array_equal(only(given), two)

    def test_visible_grey_levels_are_objects(self, tmp_path, two):
        grey = np.array([0, 127, 255], np.uint8)[two]
        given = read_masks(save(tmp_path / "first.png", grey))
        assert np.array_equal(only(given), two)
        assert given.objects == {1: "grey level 127", 2: "grey level 255"}

    def test_colours_are_objects_and_the_mapping_is_told(self, tmp_path, two):
        colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[two]
        given = read_masks(save(tmp_path / "first.png", colours))
        assert np.array_equal(only(given), two)
        assert given.objects == {1: "red (255, 0, 0)", 2: "green (0, 255, 0)"}

    def test_colours_of_the_davis_palette_keep_their_ids(self, tmp_path, two):
        two[two == 1] = 5
        given = read_masks(save(tmp_path / "first.png", PALETTE[two]))
        assert np.array_equal(only(given), two)
        assert given.objects == {2: "dark green (0, 128, 0)", 5: "purple (128, 0, 128)"}

    def test_background_need_not_be_black(self, tmp_path, two):
        colours = np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8)[two]
        given = read_masks(save(tmp_path / "first.png", colours))
        assert np.array_equal(only(given), two)
        assert "has no black: white (255, 255, 255), most frequent along the border" in given.warnings[0]

    def test_transparent_is_background(self, tmp_path, two):
        colours = np.array([[9, 9, 9, 0], [255, 0, 0, 255], [0, 255, 0, 255]], np.uint8)[two]
        assert np.array_equal(only(read_masks(save(tmp_path / "first.png", colours))), two)

    def test_a_cut_out_of_a_photograph_is_one_object(self, tmp_path, two):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
        pixels[..., 3] = 255 * (two > 0)
        given = read_masks(save(tmp_path / "first.png", pixels))
        assert np.array_equal(only(given), two > 0)
        assert "what is opaque in it was taken as one object" in given.warnings[0]

    def test_smoothed_grey_edges_are_cut_at_half(self, tmp_path):
        big = Image.fromarray(np.kron(np.eye(2, dtype=np.uint8) * 255, np.ones((200, 200), np.uint8)))
        big.resize((300, 300), Image.Resampling.BICUBIC).save(tmp_path / "first.png")
        given = read_masks(tmp_path / "first.png")
        expected = np.kron(np.eye(2, dtype=np.uint8), np.ones((150, 150), np.uint8))
        assert (only(given) != expected).mean() < 0.01
        assert "grey levels (smoothed edges or a lossy file): it was cut at 128." in given.warnings[0]

    def test_smoothed_colour_edges_go_to_the_nearest_colour(self, tmp_path, two):
        colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 255]], np.uint8)[two]
        smooth = Image.fromarray(colours).resize((600, 400), 0).resize((310, 207), Image.Resampling.BICUBIC)
        smooth.save(tmp_path / "first.png")
        given = read_masks(tmp_path / "first.png")
        assert sorted(given.objects.values()) == ["cyan (0, 255, 255)", "red (255, 0, 0)"]
        assert (only(given) != resize_labels(two, (207, 310))).mean() < 0.01
        assert "colours, 3 of them large: the others, smoothed edges" in given.warnings[0]

    def test_a_palette_sorted_by_a_painting_program(self, tmp_path, two):
        palette = [0, 0, 255, 0, 0, 0, 255, 0, 0]  # blue, black, red
        indices = np.array([1, 2, 0], np.uint8)[two]
        given = read_masks(save(tmp_path / "first.png", indices, palette=palette))
        assert np.array_equal(only(given), two)
        assert given.objects == {1: "red (255, 0, 0)", 2: "blue (0, 0, 255)"}

    def test_void_is_background(self, tmp_path, two):
        void = np.where(two == 2, 255, two).astype(np.uint8)
        write_mask(tmp_path / "first.png", void)
        given = read_masks(tmp_path / "first.png")
        assert np.array_equal(only(given), two == 1)
        assert "has the value 255 beside object ids: taken as void" in given.warnings[0]

    def test_an_array_does_too(self, two):
        assert np.array_equal(only(from_array(two == 1)), two == 1)
        assert np.array_equal(only(from_array(two, size=(80, 120))), np.kron(two, np.ones((2, 2), np.uint8)))


class TestSize:
    def test_another_size_is_resized_with_a_warning(self, tmp_path, two):
        write_mask(tmp_path / "first.png", two)
        given = read_masks(tmp_path / "first.png", size=(120, 180))
        assert np.array_equal(only(given), np.kron(two, np.ones((3, 3), np.uint8)))
        assert given.warnings == [
            f"the mask of frame 0 in {tmp_path / 'first.png'} is 60 x 40 pixels and was resized to 180 x 120"
            ", the size of the video."
        ]

    def test_resizing_takes_the_nearest_centre(self):
        labels = np.arange(6, dtype=np.uint8)[None].repeat(6, 0)
        assert resize_labels(labels, (2, 3))[0].tolist() == [1, 3, 5]
        assert resize_labels(labels, (6, 12))[0].tolist() == np.repeat(np.arange(6), 2).tolist()

    def test_another_aspect_ratio_is_an_error(self, tmp_path, two):
        write_mask(tmp_path / "first.png", two)
        with pytest.raises(MaskError, match="is 60 x 40 pixels, the video 60 x 60: another aspect"):
            read_masks(tmp_path / "first.png", size=(60, 60))

    def test_a_turned_mask_is_recognised(self, tmp_path, two):
        write_mask(tmp_path / "first.png", two)
        with pytest.raises(MaskError, match="it looks turned by 90 degrees: mark a frame as players show it"):
            read_masks(tmp_path / "first.png", size=(60, 40))

    def test_an_object_that_would_vanish(self, tmp_path, two):
        two[0, 0] = 3
        write_mask(tmp_path / "first.png", two)
        with pytest.raises(MaskError, match=r"object 3 in .* vanishes when the mask"):
            read_masks(tmp_path / "first.png", size=(10, 15))


class TestFolders:
    def test_names_of_frames(self, tmp_path, two):
        write_mask(tmp_path / "cat_9.png", two)
        write_mask(tmp_path / "cat_10.png", two)
        given = read_masks(tmp_path, names=["cat_8", "cat_9", "cat_10"])
        assert list(given.frames) == [1, 2]

    def test_numbers_of_frames(self, tmp_path, two):
        write_mask(tmp_path / "00000.png", two)
        write_mask(tmp_path / "frame_12.png", two)
        assert list(read_masks(tmp_path).frames) == [0, 12]
        names = [f"{number:05d}" for number in range(5, 20)]
        with pytest.raises(MaskError, match=r"00000.png belongs to no frame of the video: .* such as 00005.png"):
            read_masks(tmp_path, names=names)

    def test_a_single_file_goes_to_the_frame_of_its_name(self, tmp_path, two):
        write_mask(tmp_path / "00003.png", two)
        given = read_masks(tmp_path / "00003.png", names=["00001", "00002", "00003"])
        assert list(given.frames) == [2]
        assert "has the name of frame 2" in given.warnings[0]

    def test_a_colour_is_the_same_object_in_all_files(self, tmp_path, two):
        table = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
        save(tmp_path / "0.png", table[np.where(two == 2, 2, 0)])
        save(tmp_path / "5.png", table[two])
        given = read_masks(tmp_path)
        assert given.objects == {1: "green (0, 255, 0)", 2: "red (255, 0, 0)"}
        assert np.array_equal(given.frames[5], np.array([0, 2, 1], np.uint8)[two])

    def test_a_file_with_a_new_object_only_is_partial(self, tmp_path, two):
        write_mask(tmp_path / "00000.png", two * (two == 1))
        write_mask(tmp_path / "00004.png", two * (two == 2))
        write_mask(tmp_path / "00008.png", two)
        given = read_masks(tmp_path)
        assert given.partial == {4}
        assert given.unknown(4) == (1,) and given.unknown(8) == ()

    def test_two_files_of_one_frame(self, tmp_path, two):
        write_mask(tmp_path / "1.png", two)
        write_mask(tmp_path / "01.png", two)
        with pytest.raises(MaskError, match=r"the masks 01.png and 1.png in .* both mean frame 1"):
            read_masks(tmp_path)

    def test_nothing_in_it(self, tmp_path):
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(MaskError, match=r"has no mask images \(.png, .*\); it holds notes.txt"):
            read_masks(tmp_path)

    def test_a_name_without_a_number(self, tmp_path, two):
        write_mask(tmp_path / "a.png", two)
        assert list(read_masks(tmp_path).frames) == [0]
        write_mask(tmp_path / "b.png", two)
        with pytest.raises(MaskError, match=r"a.png belongs to no frame .* such as 00012.png for frame 12"):
            read_masks(tmp_path)


class TestJson:
    def write(self, tmp_path, data):
        (tmp_path / "masks.json").write_text(json.dumps(data))
        return tmp_path / "masks.json"

    def test_a_bare_code(self, tmp_path, two):
        given = read_masks(self.write(tmp_path, rle.encode(two == 1)))
        assert np.array_equal(only(given), two == 1)

    def test_coco_annotations_of_one_image(self, tmp_path, two):
        data = {
            "images": [{"id": 4, "file_name": "a.jpg", "height": 40, "width": 60}],
            "categories": [{"id": 3, "name": "cat"}],
            "annotations": [
                {
                    "image_id": 4,
                    "id": 900,
                    "category_id": 3,
                    "segmentation": rle.encode(two == 1, compress=False),
                },
                {"image_id": 4, "id": 901, "category_id": 3, "segmentation": rle.encode(two == 2)},
            ],
        }
        given = read_masks(self.write(tmp_path, data), size=(40, 60))
        assert np.array_equal(only(given), two)
        assert given.objects == {1: "cat", 2: "cat"}

    def test_polygons(self, tmp_path, two):
        data = {
            "images": [{"id": 1, "height": 40, "width": 60}],
            "annotations": [{"image_id": 1, "segmentation": [[8, 5, 30, 5, 30, 20, 8, 20]]}],
        }
        assert np.array_equal(only(read_masks(self.write(tmp_path, data))), two == 1)

    def test_coco_annotations_of_several_images(self, tmp_path, two):
        piece = rle.encode(two == 1)
        data = {
            "images": [{"id": 1, "file_name": "x/00000.jpg"}, {"id": 2, "file_name": "x/00006.jpg"}],
            "annotations": [
                {"image_id": 1, "category_id": 1, "track_id": 8, "segmentation": piece},
                {"image_id": 2, "category_id": 1, "track_id": 8, "segmentation": piece},
                {"image_id": 2, "category_id": 1, "track_id": 9, "segmentation": rle.encode(two == 2)},
            ],
        }
        given = read_masks(self.write(tmp_path, data))
        assert list(given.frames) == [0, 6] and list(given.objects) == [8, 9]
        for annotation in data["annotations"]:
            del annotation["track_id"]
        with pytest.raises(MaskError, match=r"does not say which is which in the next; give every .* a track_id"):
            read_masks(self.write(tmp_path, data))

    def test_youtube_vis(self, tmp_path, two):
        data = {
            "videos": [{"id": 1, "file_names": ["v/00000.jpg", "v/00005.jpg"]}],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [
                {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [rle.encode(two == 1), None]},
                {"id": 2, "video_id": 1, "category_id": 1, "segmentations": [None, rle.encode(two == 2)]},
            ],
        }
        path = self.write(tmp_path, data)
        given = read_masks(path)
        assert list(given.frames) == [0, 1] and given.partial == {1}
        assert np.array_equal(given.frames[0], two == 1)
        assert np.array_equal(given.frames[1], 2 * (two == 2))
        assert list(read_masks(path, names=["00000", "00004", "00005"]).frames) == [0, 2]

    def test_overlapping_objects_leave_the_smaller_whole(self, tmp_path, two):
        data = [rle.encode(two == 1), rle.encode(np.ones_like(two))]
        given = read_masks(self.write(tmp_path, data))
        assert np.array_equal(only(given), np.where(two == 1, 1, 2))
        assert "objects overlap in frame 0" in given.warnings[0]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({}, "is neither COCO nor YouTube-VIS"),
            ({"annotations": []}, "holds no annotations"),
            (
                [{"video_id": 1, "segmentations": []}, {"video_id": 2, "segmentations": []}],
                r"holds 2 videos \(1, 2\)",
            ),
            ({"size": [2, 2], "counts": [1]}, r"object 1, frame 0: a run-length code is damaged"),
            ([{"image_id": 1, "segmentation": [[0, 0, 1, 1, 0, 1]]}], "a polygon needs the height and width"),
        ],
    )
    def test_what_is_no_masks(self, tmp_path, data, message):
        with pytest.raises(MaskError, match=message):
            read_masks(self.write(tmp_path, data))

    def test_what_is_no_json(self, tmp_path):
        (tmp_path / "masks.json").write_text("{")
        with pytest.raises(MaskError, match="is not readable JSON: Expecting property name"):
            read_masks(tmp_path / "masks.json")


class TestWhatIsNoMask:
    def test_a_missing_file(self, tmp_path):
        with pytest.raises(MaskError, match=r"there is no mask file or folder .*first.png"):
            read_masks(tmp_path / "first.png")

    def test_a_file_of_another_kind(self, tmp_path):
        (tmp_path / "first.png").write_text("hello")
        with pytest.raises(MaskError, match=r"first.png cannot be read as an image"):
            read_masks(tmp_path / "first.png")

    def test_a_truncated_png(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 3, (90, 90), dtype=np.uint8)
        write_mask(tmp_path / "first.png", noise)
        whole = (tmp_path / "first.png").read_bytes()
        (tmp_path / "first.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(MaskError, match=r"first.png cannot be read as an image: .*truncated"):
            read_masks(tmp_path / "first.png")

    @pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3)])
    def test_a_photograph(self, tmp_path, shape):
        path = save(tmp_path / "first.png", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        with pytest.raises(MaskError, match="looks like a photograph"):
            read_masks(path)

    def test_nothing_marked(self, tmp_path, two):
        write_mask(tmp_path / "first.png", two * 0)
        with pytest.raises(MaskError, match=r"no object is marked in .*first.png: every pixel is background"):
            read_masks(tmp_path / "first.png")

    def test_ids_out_of_range(self, two):
        with pytest.raises(MaskError, match="has pixel values from 0 to 2000; object ids go from 1 to 254"):
            from_array(two.astype(np.int32) * 1000)

    def test_an_array_of_another_kind(self, two):
        with pytest.raises(MaskError, match=r"is float64 of shape \[40, 60\]; a mask is \[H, W\] of whole numbers"):
            from_array(two * 0.5)


class TestWriting:
    def test_the_palette_is_that_of_davis(self, tmp_path, two):
        assert PALETTE[:10].tolist() == [
            [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128],
            [128, 0, 128], [0, 128, 128], [128, 128, 128], [64, 0, 0], [192, 0, 0],
        ]  # fmt: skip
        write_mask(tmp_path / "a.png", two)
        with Image.open(tmp_path / "a.png") as image:
            assert image.mode == "P"
            assert image.getpalette() == PALETTE.ravel().tolist()

    def test_no_file_is_left_where_writing_fails(self, tmp_path, two):
        with pytest.raises(OutputError, match=r"the mask .*gone/a.png cannot be written: No such file or directory"):
            write_mask(tmp_path / "gone" / "a.png", two)
        assert list(tmp_path.iterdir()) == []

    def test_other_arrays_are_refused(self, tmp_path, two):
        with pytest.raises(ValueError, match=r"labels are \[H, W\] uint8; got int64"):
            write_mask(tmp_path / "a.png", two.astype(int))


def test_natural_order():
    assert sorted(["f10", "f9", "F1", "f010"], key=natural_key) == ["F1", "f9", "f010", "f10"]


class TestRealFiles:
    def test_judo_each_file_carries_one_new_object(self):
        folder = shared("data", "more", "judo", "Annotations", "480p", "judo")
        given = read_masks(folder, size=(480, 854), names=[f"{n:05d}" for n in range(16)])
        assert {index: np.unique(labels)[1:].tolist() for index, labels in given.frames.items()} == {
            0: [1], 5: [2], 8: [3], 13: [4]
        }  # fmt: skip
        assert given.partial == {5, 8, 13}
        assert len(given.warnings) == 1 and "frame 5" in given.warnings[0] and "853 x 480" in given.warnings[0]

    def test_caps_an_object_is_added_later(self):
        given = read_masks(shared("data", "more", "caps", "Annotations", "480p", "caps"), size=(853, 480))
        assert list(given.frames) == [0, 14, 33, 43, 66]
        assert np.unique(given.frames[0]).tolist() == [0, 1] and list(given.objects) == [1, 2]
        assert given.warnings == []

    def test_davis_masks_come_back_to_the_pixel(self, tmp_path):
        path = shared("data", "davis-dev", "Annotations", "480p", "bmx-trees", "00000.png")
        labels = only(read_masks(path))
        with Image.open(path) as image:
            assert np.array_equal(labels, np.asarray(image))
        write_mask(tmp_path / "a.png", labels)
        assert np.array_equal(only(read_masks(tmp_path / "a.png")), labels)
