"""Frames come out of whatever people have, upright, in order, in time; damage is told and passed over."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from video_clips import encode, found_square, overwrite_packet, picture, square

from conftest import shared
from pliant.errors import SourceError
from pliant.video import read


def check(path, frames=20, size=(96, 128), **options):
    """Reads a clip of `picture`, checks every frame, and returns reader and frames."""
    with read(path, **options) as reader:
        assert reader.info.size == size
        found = list(reader)
    assert [frame.index for frame in found] == list(range(frames))
    for frame in found:
        assert frame.image.shape == (*size, 3) and frame.image.dtype == np.uint8
        wrong = found_square(frame.image) != square(frame.index, size)
        assert wrong.mean() < 0.03, f"frame {frame.index} shows something else"
    return reader, found


class TestContainers:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("h264.mp4", {}),
            ("h264.mkv", {}),
            ("h264.mov", {}),
            ("h264.ts", {}),
            ("h264.avi", {"options": {"bf": "0"}}),
            ("h265.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
            ("h265-10-bit.mkv", {"codec": "libx265", "pixels": "yuv420p10le",
                                 "options": {"x265-params": "log-level=none"}}),
            ("h264-4-4-4.mp4", {"pixels": "yuv444p"}),
            ("vp8.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
            ("vp9.webm", {"codec": "libvpx-vp9"}),
            ("av1.mp4", {"codec": "libsvtav1", "options": {"preset": "12"}}),
            ("prores.mov", {"codec": "prores_ks", "pixels": "yuv422p10le"}),
            ("mpeg4.avi", {"codec": "mpeg4"}),
            ("motion-jpeg.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
            ("loss-less.mkv", {"codec": "ffv1"}),
            ("clip.gif", {"codec": "gif", "pixels": "rgb8"}),
        ],
    )  # fmt: skip
    def test_every_frame_is_read(self, tmp_path, name, options):
        reader, found = check(encode(tmp_path / name, **options))
        assert reader.info.kind == "video" and reader.info.has_audio is False
        assert reader.info.frame_rate == pytest.approx(25)
        assert reader.info.frame_count == pytest.approx(20, abs=1)
        assert [frame.name for frame in found][:3] == ["00000", "00001", "00002"]
        times = np.array([frame.time_seconds for frame in found])
        assert times[0] <= 0.041  # AVI counts from one
        assert np.allclose(times - times[0], np.arange(20) / 25, atol=0.002)
        assert reader.warnings == [] and reader.damaged == 0

    def test_odd_sizes(self, tmp_path):
        check(encode(tmp_path / "a.mkv", size=(97, 131), pixels="yuv444p"), size=(97, 131))

    def test_audio_is_seen(self, tmp_path):
        reader, _ = check(encode(tmp_path / "a.mp4", audio=True))
        assert reader.info.has_audio

    def test_variable_frame_rate_keeps_its_times(self, tmp_path):
        times = list(np.cumsum([0, 0.04, 0.2, 0.04, 0.5, *[0.03] * 15]))
        _, found = check(encode(tmp_path / "a.mp4", times=times))
        assert np.allclose([f.time_seconds for f in found], times, atol=0.001)

    def test_ntsc_rate(self, tmp_path):
        reader, _ = check(encode(tmp_path / "a.mp4", rate=Fraction(30000, 1001)))
        assert reader.info.frame_rate == pytest.approx(29.97003)

    @pytest.mark.parametrize("degrees", [90, 180, -90])
    def test_the_rotation_tag_is_obeyed(self, tmp_path, degrees):
        path = encode(tmp_path / "a.mp4", rotation=degrees)
        with read(path) as reader:
            frame = next(reader)
            expected = np.rot90(square(0), degrees // 90)  # counter-clockwise
            assert reader.info.size == expected.shape
            assert (found_square(frame.image) != expected).mean() < 0.03

    @pytest.mark.parametrize(
        ("name", "codec", "pixels"), [("a.mov", "prores_ks", "yuva444p10le"), ("a.mkv", "ffv1", "bgra")]
    )
    def test_transparent_is_black(self, tmp_path, name, codec, pixels):
        path = encode(tmp_path / name, codec=codec, pixels=pixels, alpha=True)
        _, found = check(path)
        assert found[3].image[~square(3)].mean() < 3

    def test_colours_are_right(self, tmp_path):
        _, found = check(encode(tmp_path / "a.mp4", options={"crf": "8"}))
        assert np.abs(found[7].image.astype(int) - picture(7)).mean() < 4


class TestReading:
    def test_start_passes_over(self, tmp_path):
        path = encode(tmp_path / "a.mp4")
        with read(path) as all_frames, read(path, start=13) as later:
            expected = list(all_frames)[13:]
            for frame, same in zip(later, expected, strict=True):
                assert (frame.index, frame.name) == (same.index, same.name)
                assert frame.time_seconds == same.time_seconds
                assert np.array_equal(frame.image, same.image)

    def test_few_frames_wait(self, tmp_path):
        path = encode(tmp_path / "a.mp4", frames=200, size=(240, 320))
        with read(path, ahead=4) as reader:
            next(reader)
            tracemalloc.start()
            for _ in range(150):
                next(reader)
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert held < 12 * 240 * 320 * 3

    def test_leaving_early_ends_the_thread(self, tmp_path):
        path = encode(tmp_path / "a.mp4", frames=100)
        with read(path) as reader:
            next(reader)
        assert not any(thread.name == "pliant-decode" for thread in threading.enumerate())
        assert list(reader) == []

    def test_negative_start(self, tmp_path):
        with pytest.raises(ValueError, match="start is the index of a frame, at least 0; got -1"):
            read(encode(tmp_path / "a.mp4"), start=-1)


class TestDamage:
    def test_a_damaged_key_frame_keeps_count_and_times(self, tmp_path):
        path = encode(tmp_path / "a.mp4")
        overwrite_packet(path, 10)  # a key frame: nothing is right until the next one, at 15
        with read(path) as reader:
            found = list(reader)
        assert [frame.index for frame in found] == list(range(20))
        assert np.allclose([f.time_seconds for f in found], np.arange(20) / 25, atol=0.002)
        damaged = [frame.index for frame in found if frame.damaged]
        assert damaged and set(damaged) <= set(range(7, 15)) and 10 in damaged
        assert reader.damaged == len(damaged)
        without_picture = found[damaged[-1]]
        assert np.array_equal(without_picture.image, found[damaged[-1] - 1].image)
        assert (found_square(found[16].image) != square(16)).mean() < 0.03
        assert f"{path}: a frame near " in reader.warnings[0] and "is damaged: " in reader.warnings[0]

    @pytest.mark.parametrize(("codec", "name"), [("mpeg4", "a.mp4"), ("mjpeg", "a.mov"), ("libvpx-vp9", "a.webm")])
    def test_other_codings_keep_count(self, tmp_path, codec, name):
        path = encode(tmp_path / name, codec=codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p")
        overwrite_packet(path, 10)
        with read(path) as reader:
            assert [frame.index for frame in reader] == list(range(20))

    def test_a_truncated_file_is_told(self, tmp_path):
        path = encode(tmp_path / "a.mp4", frames=100, container_options={"movflags": "faststart"})
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 6 // 10])
        with read(path) as reader:
            found = list(reader)
        good = [frame for frame in found if not frame.damaged]
        assert 20 < len(good) < 90
        assert any("it was cut off or damaged" in w or "is damaged" in w for w in reader.warnings)

    def test_a_recording_without_its_end(self, tmp_path):
        path = encode(tmp_path / "a.mp4", frames=50)
        path.write_bytes(path.read_bytes()[:4000])
        with pytest.raises(SourceError, match=r"the video .*a.mp4 has no index: its recording was cut off"):
            read(path)


class TestWhatIsNoVideo:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"the file .*a.mp4 is empty"),
            (b"hello, I am a text" * 50, r"a.mp4 is not a video that FFmpeg knows, or is damaged"),
        ],
    )
    def test_other_files(self, tmp_path, content, message):
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(SourceError, match=message):
            read(tmp_path / "a.mp4")

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(SourceError, match=r"there is no video, folder or pattern .*a.mp4"):
            read(tmp_path / "a.mp4")

    def test_sound_alone(self, tmp_path):
        import av
        from video_clips import _tone

        with av.open(str(tmp_path / "a.m4a"), "w") as out:
            _tone(out, out.add_stream("aac", rate=16000, layout="mono"), 1.0)
        with pytest.raises(SourceError, match=r"a.m4a has no video in it, only audio"):
            read(tmp_path / "a.m4a")

    def test_no_such_camera(self):
        with pytest.raises(SourceError, match=r"there is no camera 77: /dev/video77 does not exist"):
            read("camera:77")

    def test_a_rate_for_a_video(self, tmp_path):
        with pytest.raises(ValueError, match="frame_rate is for images"):
            read(encode(tmp_path / "a.mp4"), frame_rate=10)


class TestImages:
    def folder(self, path, names):
        path.mkdir(exist_ok=True)
        for index, name in enumerate(names):
            Image.fromarray(picture(index)).save(path / name, quality=95)
        return path

    def test_natural_order_and_names(self, tmp_path):
        names = [f"shot{n}.png" for n in range(8, 12)]
        reader, found = check(self.folder(tmp_path / "f", names), frames=4)
        assert [frame.name for frame in found] == ["shot8", "shot9", "shot10", "shot11"]
        assert reader.info.names == ("shot8", "shot9", "shot10", "shot11")
        assert reader.info.kind == "images" and reader.info.frame_count == 4
        assert found[3].time_seconds == pytest.approx(3 / 24)

    def test_a_pattern(self, tmp_path):
        folder = self.folder(tmp_path / "f", ["1.jpg", "2.jpg", "10.jpg"])
        self.folder(tmp_path / "f", ["1.png"])
        reader, _ = check(str(folder / "*.jpg"), frames=3, frame_rate=10)
        assert reader.info.names == ("1", "2", "10") and reader.info.frame_rate == 10
        with pytest.raises(SourceError, match=r"would be frames of one name; give a pattern .*\*\.(png|jpg)"):
            read(folder)

    def test_start(self, tmp_path):
        with read(self.folder(tmp_path / "f", ["1.png", "2.png", "3.png"]), start=2) as reader:
            assert [(frame.index, frame.name) for frame in reader] == [(2, "3")]

    def test_a_damaged_image_is_passed_over(self, tmp_path):
        folder = self.folder(tmp_path / "f", ["1.png", "2.png", "3.png"])
        (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:200])
        with read(folder) as reader:
            found = list(reader)
        assert [frame.damaged for frame in found] == [False, True, False]
        assert np.array_equal(found[1].image, found[0].image)
        assert reader.damaged == 1 and "2.png cannot be read" in reader.warnings[0]

    def test_images_of_two_shapes(self, tmp_path):
        folder = self.folder(tmp_path / "f", ["1.png"])
        Image.fromarray(picture(0, (96, 96))).save(folder / "2.png")
        with read(folder) as reader, pytest.raises(SourceError, match=r"2.png is 96 x 96 pixels, the first"):
            list(reader)

    def test_grey_sixteen_bit_and_turned_images(self, tmp_path):
        folder = tmp_path / "f"
        folder.mkdir()
        Image.fromarray(np.full((96, 128), 40000, np.uint16)).save(folder / "1.png")
        exif = Image.Exif()
        exif[0x0112] = 6  # turn right to see it upright
        Image.fromarray(np.rot90(picture(1))).save(folder / "2.jpg", exif=exif, quality=95)
        with read(folder) as reader:
            first, second = reader
        assert (first.image == 40000 >> 8).all()
        assert (found_square(second.image) != square(1)).mean() < 0.03

    def test_no_images(self, tmp_path):
        (tmp_path / "clip.txt").write_text("")
        with pytest.raises(SourceError, match=r"has no images \(.*\); it holds clip.txt"):
            read(tmp_path)
        with pytest.raises(SourceError, match=r"no file matches .*\*.jpg"):
            read(str(tmp_path / "*.jpg"))


class TestRealClips:
    @pytest.mark.parametrize(
        ("name", "frames", "size"),
        [("kitten.mp4", 149, (320, 568)), ("dance-portrait.mp4", 240, (720, 406)), ("street-cars.mp4", 40, (450, 800))],
    )
    def test_every_frame_of_real_footage_is_read(self, name, frames, size):
        with read(shared("data", "unlabelled", name)) as reader:
            assert (reader.info.size, reader.info.frame_count) == (size, frames)
            times = [frame.time_seconds for frame in reader]
        assert len(times) == frames and (np.diff(times) > 0).all()
        assert reader.damaged == 0 and reader.warnings == []


class TestStreams:
    def serve(self, data, *, stay_open=None):
        """Sends ``data`` to the first caller of a local port; returns the address."""
        server = socket.create_server(("127.0.0.1", 0))

        def send():
            connection, _ = server.accept()
            with server, connection:
                connection.sendall(data)
                if stay_open is not None:
                    stay_open.wait(10)

        threading.Thread(target=send, daemon=True).start()
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"

    def test_a_stream_over_a_socket(self, tmp_path):
        clip = encode(tmp_path / "a.ts", frames=60).read_bytes()
        with read(self.serve(clip)) as reader:
            assert reader.info.kind == "stream" and reader.info.frame_count is None
            found = list(reader)
        assert len(found) == 60 and reader.dropped == 0
        assert (found_square(found[50].image) != square(50)).mean() < 0.03

    def test_a_live_stream_drops_what_waits(self, tmp_path):
        clip = encode(tmp_path / "a.ts", frames=60).read_bytes()
        with read(self.serve(clip), live=True, ahead=2) as reader:
            first = next(reader)
            while reader._thread.is_alive() and reader.dropped < 50:
                threading.Event().wait(0.01)
            found = [first, *reader]
        assert reader.dropped > 20 and len(found) + reader.dropped == 60
        assert found[-1].index == 59

    def test_a_silent_stream(self):
        done = threading.Event()
        address = self.serve(b"", stay_open=done)
        with pytest.raises(SourceError, match=r"tcp://127.0.0.1:\d+ sent nothing for 0.5 seconds"):
            read(address, timeout_seconds=0.5)
        done.set()

    def test_a_stream_that_breaks_off(self, tmp_path):
        clip = encode(tmp_path / "a.ts", frames=60).read_bytes()
        done = threading.Event()
        with read(self.serve(clip[: len(clip) // 2], stay_open=done), timeout_seconds=0.5) as reader:
            found = list(reader)
        done.set()
        assert 10 < len(found) < 60
        assert any("breaks off" in warning for warning in reader.warnings)

    def test_nobody_there(self):
        with pytest.raises(SourceError, match=r"tcp://127.0.0.1:9 cannot be opened: Connection refused"):
            read("tcp://127.0.0.1:9")
