"""Results of a video are whole or absent, carry the source's timing and sound, and survive a break."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_clips import encode, found_square, square

import pliant.video.write
from pliant.errors import OutputError
from pliant.video import ResultWriter, read, read_masks
from pliant.video.palette import PALETTE


def labels_of(index, size=(96, 128)):
    return square(index, size).astype(np.uint8)


def run(clip, out, *, stop=None, **options):
    """Follows the square through a clip, as the tracker would; ``stop``: break off before that frame."""
    with read(clip) as frames, ResultWriter(out, frames.info, objects={1: "square"}, **options) as results:
        for frame in frames:
            if frame.index == stop:
                raise KeyboardInterrupt
            if frame.index < results.done:
                assert np.array_equal(results.replay(frame), labels_of(frame.index, frames.info.size))
            else:
                labels = labels_of(frame.index, frames.info.size)
                results.write(frame, labels, given=frame.index == 0, confidence={1: 0.5})
        return results.finish({"model": "truth"})


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def decoded(path):
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
        times = [float(picture.pts * picture.time_base) for picture in pictures]
        return [picture.to_ndarray(format="rgb24") for picture in pictures], times


class TestWhatIsWritten:
    def test_all_files(self, tmp_path):
        clip = encode(tmp_path / "a.mp4", frames=12)
        summary = run(clip, tmp_path / "out")
        masks = [f"masks/{n:05d}.png" for n in range(12)]
        assert files(tmp_path / "out") == sorted(
            ["contact_sheet.png", *masks, "overlay.mp4", "results.json", "summary.json"]
        )
        assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["model"] == "truth" and summary["frames"] == 12 and summary["given_frames"] == [0]
        assert summary["objects"] == {"1": {"name": "square", "frames_seen": 12, "mean_confidence": 0.5, "lost": []}}
        assert summary["files"] == [
            "masks",
            "overlay.mp4",
            "results.json",
            "summary.json",
            "contact_sheet.png",
        ]

    def test_masks_and_results_hold_the_labels(self, tmp_path):
        run(encode(tmp_path / "a.mp4", frames=12), tmp_path / "out")
        for given in (read_masks(tmp_path / "out" / "masks"), read_masks(tmp_path / "out" / "results.json")):
            assert list(given.frames) == list(range(12))
            assert all(np.array_equal(given.frames[n], labels_of(n)) for n in range(12))

    def test_results_are_youtube_vis(self, tmp_path):
        run(encode(tmp_path / "a.mp4", frames=3), tmp_path / "out")
        (entry,) = json.loads((tmp_path / "out" / "results.json").read_text())
        assert (entry["video_id"], entry["category_id"], entry["score"]) == (1, 1, 0.5)
        assert len(entry["segmentations"]) == 3 and set(entry["segmentations"][0]) == {"size", "counts"}

    def test_names_of_images_are_kept(self, tmp_path):
        folder = tmp_path / "images"
        folder.mkdir()
        for name in ("shot9", "shot10"):
            Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(folder / f"{name}.png")
        run(folder, tmp_path / "out")
        assert files(tmp_path / "out" / "masks") == ["shot10.png", "shot9.png"]

    def test_lost_spans(self, tmp_path):
        with (
            read(encode(tmp_path / "a.mp4", frames=12)) as frames,
            ResultWriter(tmp_path / "out", frames.info) as results,
        ):
            for frame in frames:
                there = frame.index in (2, 3, 4, 8, 9)
                results.write(frame, labels_of(frame.index) * np.uint8(there), lost=[1] if frame.index == 9 else None)
            objects = results.finish()["objects"]
        assert objects == {"1": {"name": "", "frames_seen": 4, "mean_confidence": None, "lost": [[5, 7], [9, 11]]}}

    def test_no_overlay_where_none_is_wanted(self, tmp_path):
        run(encode(tmp_path / "a.mp4", frames=3), tmp_path / "out", overlay=False)
        assert not (tmp_path / "out" / "overlay.mp4").exists()


class TestOverlay:
    def test_objects_are_drawn_on_every_frame(self, tmp_path):
        run(encode(tmp_path / "a.mp4"), tmp_path / "out")
        pictures, _ = decoded(tmp_path / "out" / "overlay.mp4")
        assert len(pictures) == 20
        with read(tmp_path / "a.mp4") as frames:
            for frame, drawn in zip(frames, pictures, strict=True):
                away = ~square(frame.index)
                assert np.abs(drawn[away].astype(int) - frame.image[away]).mean() < 6
                inside = np.roll(square(frame.index), 0)
                assert drawn[inside][:, 1].mean() < frame.image[inside][:, 1].mean()  # redder

    def test_times_of_a_variable_frame_rate(self, tmp_path):
        times = list(np.cumsum([0, 0.04, 0.2, 0.04, 0.5, *[0.03] * 15]))
        run(encode(tmp_path / "a.mp4", times=times), tmp_path / "out")
        assert np.allclose(decoded(tmp_path / "out" / "overlay.mp4")[1], times, atol=0.001)

    @pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
    def test_sound_comes_along_in_time(self, tmp_path, name):
        clip = encode(tmp_path / name, frames=50, audio=True)
        run(clip, tmp_path / "out")
        with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
            assert [stream.type for stream in overlay.streams] == ["video", "audio"]
            sound = overlay.streams.audio[0]
            assert sound.codec_context.name == "aac"
            samples = np.concatenate([f.to_ndarray()[0] for f in overlay.decode(audio=0)])
        assert samples.size / 16000 == pytest.approx(2.0, abs=0.15)
        spectrum = np.abs(np.fft.rfft(samples))
        assert np.argmax(spectrum) * 16000 / samples.size == pytest.approx(440, abs=3)
        assert decoded(tmp_path / "out" / "overlay.mp4")[1][-1] == pytest.approx(49 / 25, abs=0.08)

    def test_sound_that_mp4_cannot_hold_is_coded_again(self, tmp_path):
        with (
            av.open(str(tmp_path / "a.mkv"), "w") as out,
            av.open(str(encode(tmp_path / "b.mp4", audio=True))) as given,
        ):
            picture = out.add_stream_from_template(given.streams.video[0])
            sound = out.add_stream("pcm_s16le", rate=16000, layout="mono")
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = picture
                    out.mux(packet)
            for begin in range(0, 12000, 1000):
                tone = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
                tone.sample_rate, tone.pts = 16000, begin
                out.mux(sound.encode(tone))
        run(tmp_path / "a.mkv", tmp_path / "out")
        with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
            assert overlay.streams.audio[0].codec_context.name == "aac"
            assert sum(frame.samples for frame in overlay.decode(audio=0)) / 16000 == pytest.approx(0.75, abs=0.15)

    @pytest.mark.parametrize(("size", "written"), [((97, 131), (98, 132)), ((96, 131), (96, 132))])
    def test_odd_sizes_are_made_even(self, tmp_path, size, written):
        run(encode(tmp_path / "a.mkv", frames=3, size=size, pixels="yuv444p"), tmp_path / "out")
        pictures, _ = decoded(tmp_path / "out" / "overlay.mp4")
        assert pictures[0].shape[:2] == written
        with Image.open(tmp_path / "out" / "masks" / "00000.png") as mask:
            assert mask.size == (size[1], size[0])

    def test_a_turned_video_is_written_upright(self, tmp_path):
        clip = encode(tmp_path / "a.mp4", frames=3, rotation=90)
        with read(clip) as frames, ResultWriter(tmp_path / "out", frames.info) as results:
            for frame in frames:
                results.write(frame, np.rot90(labels_of(frame.index)))
            results.finish()
        pictures, _ = decoded(tmp_path / "out" / "overlay.mp4")
        assert pictures[0].shape[:2] == (128, 96)
        assert found_square(pictures[0])[np.rot90(square(0))].mean() > 0.9


class TestAlpha:
    @pytest.mark.parametrize(("coding", "name", "decoder"), [("vp9", "object_1.webm", "libvpx-vp9"),
                                                              ("prores", "object_1.mov", "prores")])  # fmt: skip
    def test_what_is_not_the_object_is_transparent(self, tmp_path, coding, name, decoder):
        clip = encode(tmp_path / "a.mp4", frames=8)
        summary = run(clip, tmp_path / "out", alpha=coding)
        assert f"alpha/{name}" in summary["files"]
        with av.open(str(tmp_path / "out" / "alpha" / name)) as container:
            context = av.CodecContext.create(decoder, "r")
            context.extradata = container.streams.video[0].codec_context.extradata
            packets = [packet for packet in container.demux(video=0) if packet.size]
            pictures = [p for packet in packets for p in context.decode(packet)] + context.decode(None)
        alpha = pictures[4].to_ndarray(format="rgba")[..., 3]
        assert len(pictures) == 8
        assert alpha[square(4)].mean() > 235 and alpha[~square(4)].mean() < 12

    def test_an_object_that_comes_later_begins_transparent(self, tmp_path):
        clip = encode(tmp_path / "a.mp4", frames=6)
        with read(clip) as frames, ResultWriter(tmp_path / "out", frames.info, alpha="prores") as results:
            for frame in frames:
                results.write(frame, labels_of(frame.index) * np.uint8(frame.index >= 3))
            results.finish()
        _, times = decoded(tmp_path / "out" / "alpha" / "object_1.mov")
        assert np.allclose(times, [0, 3 / 25, 4 / 25, 5 / 25], atol=0.001)

    def test_other_codings(self, tmp_path):
        with (
            read(encode(tmp_path / "a.mp4")) as frames,
            pytest.raises(ValueError, match="one of vp9, prores or None"),
        ):
            ResultWriter(tmp_path / "out", frames.info, alpha="gif")


class TestBreaks:
    def test_nothing_half_is_left(self, tmp_path):
        clip = encode(tmp_path / "a.mp4")
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path / "out", stop=7)
        assert files(tmp_path / "out") == [".journal.jsonl", *(f"masks/{n:05d}.png" for n in range(7))]

    @pytest.mark.parametrize("alpha", [None, "prores"])
    def test_continued_equals_unbroken(self, tmp_path, alpha):
        clip = encode(tmp_path / "a.mp4", audio=True)
        whole = run(clip, tmp_path / "whole", alpha=alpha)
        for stop in (4, 11):
            with pytest.raises(KeyboardInterrupt):
                run(clip, tmp_path / "out", alpha=alpha, stop=stop, resume=True)
        assert run(clip, tmp_path / "out", alpha=alpha, resume=True) == whole
        assert files(tmp_path / "out") == files(tmp_path / "whole")
        for name in files(tmp_path / "whole"):
            one, other = (tmp_path / "out" / name), (tmp_path / "whole" / name)
            if name.endswith((".mp4", ".mov")):
                for a, b in zip(decoded(one)[0], decoded(other)[0], strict=True):
                    assert np.array_equal(a, b)
                assert decoded(one)[1] == decoded(other)[1]
            else:
                assert one.read_bytes() == other.read_bytes(), name

    def test_soft_edges_are_kept_over_a_break(self, tmp_path):
        clip = encode(tmp_path / "a.mp4", frames=6)

        def follow(out, stop=None, resume=False):
            with (
                read(clip) as frames,
                ResultWriter(out, frames.info, alpha="prores", resume=resume) as results,
            ):
                for frame in itertools.islice(frames, stop):
                    if frame.index < results.done:
                        results.replay(frame)
                    else:
                        soft = {1: np.where(square(frame.index), 0.83, 0.31).astype(np.float32)}
                        results.write(frame, labels_of(frame.index), soft)
                if stop is None:
                    results.finish()

        follow(tmp_path / "whole")
        follow(tmp_path / "out", stop=3)
        follow(tmp_path / "out", resume=True)
        one, other = (decoded(tmp_path / out / "alpha" / "object_1.mov")[0] for out in ("out", "whole"))
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert files(tmp_path / "out") == files(tmp_path / "whole")

    def test_a_killed_process_can_be_continued(self, tmp_path):
        clip = encode(tmp_path / "a.mp4")
        code = (
            "import sys, os, signal, time; sys.path.insert(0, sys.argv[3])\n"
            "import numpy as np\n"
            "from video_clips import square\n"
            "from pliant.video import read, ResultWriter\n"
            "with read(sys.argv[1]) as frames, \\\n"
            "     ResultWriter(sys.argv[2], frames.info, objects={1: 'square'}) as out:\n"
            "    for frame in frames:\n"
            "        out.write(frame, square(frame.index).astype(np.uint8), given=frame.index == 0,\n"
            "                  confidence={1: 0.5})\n"
            "        if frame.index == 12:\n"
            "            os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        here = str(Path(__file__).parent)
        done = subprocess.run([sys.executable, "-c", code, str(clip), str(tmp_path / "out"), here], timeout=60)
        assert done.returncode == -signal.SIGKILL
        with open(tmp_path / "out" / ".journal.jsonl", "a") as journal:
            journal.write('{"index": 99, "na')  # a line that the kill cut off
        whole = run(clip, tmp_path / "whole")
        assert run(clip, tmp_path / "out", resume=True) == whole
        assert files(tmp_path / "out") == files(tmp_path / "whole")

    def test_a_finished_run_has_nothing_to_continue(self, tmp_path):
        clip = encode(tmp_path / "a.mp4", frames=4)
        whole = run(clip, tmp_path / "out")
        with read(clip) as frames, ResultWriter(tmp_path / "out", frames.info, resume=True) as results:
            assert results.finished and results.done == 4
            assert results.finish() == whole

    def test_other_settings_are_another_run(self, tmp_path):
        clip = encode(tmp_path / "a.mp4")
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path / "out", stop=7, settings={"model": "small"})
        with pytest.raises(OutputError, match=r"was begun with another model \('small', now 'large'\) and cannot be"):
            run(clip, tmp_path / "out", resume=True, settings={"model": "large"})

    def test_a_mask_that_was_deleted_is_made_again(self, tmp_path):
        clip = encode(tmp_path / "a.mp4")
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path / "out", stop=7)
        (tmp_path / "out" / "masks" / "00004.png").unlink()
        with read(clip) as frames, ResultWriter(tmp_path / "out", frames.info, resume=True) as results:
            assert results.done == 4
        assert run(clip, tmp_path / "out", resume=True)["frames"] == 20


class TestBeforeWorkStarts:
    def test_results_are_not_replaced_unasked(self, tmp_path):
        clip = encode(tmp_path / "a.mp4", frames=6)
        run(clip, tmp_path / "out")
        (tmp_path / "out" / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"out already holds results \(summary.json, .*\); use --overwrite"):
            run(clip, tmp_path / "out")
        run(encode(tmp_path / "b.mp4", frames=3), tmp_path / "out", overwrite=True)
        assert files(tmp_path / "out" / "masks") == ["00000.png", "00001.png", "00002.png"]
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"

    def test_an_unfinished_run_is_offered_to_be_continued(self, tmp_path):
        clip = encode(tmp_path / "a.mp4")
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path / "out", stop=7)
        with pytest.raises(OutputError, match=r"holds an unfinished run; use --resume to continue it, --overwrite"):
            run(clip, tmp_path / "out")

    def test_a_file_in_the_place_of_the_folder(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(OutputError, match=r"out is a file; results need a folder"):
            run(encode(tmp_path / "a.mp4"), tmp_path / "out")

    def test_a_folder_that_cannot_be_written(self, tmp_path, monkeypatch):
        def refuse(self, data):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(Path, "write_bytes", refuse)
        with (
            read(encode(tmp_path / "a.mp4")) as frames,
            pytest.raises(
                OutputError,
                match=r"the folder .*out cannot be written: Permission denied; choose another one",
            ),
        ):
            ResultWriter(tmp_path / "out", frames.info)

    def test_too_little_room(self, tmp_path, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(pliant.video.write.shutil, "disk_usage", lambda _: usage(1, 1, 1000))
        with pytest.raises(OutputError, match=r"has 0 MB free and the results of 20 frames of 128 x 96 take about"):
            run(encode(tmp_path / "a.mp4"), tmp_path / "out")


class TestWhileItRuns:
    def test_the_disk_fills_up(self, tmp_path, monkeypatch):
        clip = encode(tmp_path / "a.mp4")
        real = pliant.video.write.write_mask

        def full(path, labels):
            if path.name == "00005.png":
                raise OSError(errno.ENOSPC, "No space left on device")
            real(path, labels)

        monkeypatch.setattr(pliant.video.write, "write_mask", full)
        with pytest.raises(OutputError, match=r"is full: frame 00005 could not be written; free .* with --resume"):
            run(clip, tmp_path / "out")
        assert files(tmp_path / "out") == [".journal.jsonl", *(f"masks/{n:05d}.png" for n in range(5))]
        monkeypatch.undo()
        assert run(clip, tmp_path / "out", resume=True)["frames"] == 20

    def test_labels_of_another_size(self, tmp_path):
        with (
            read(encode(tmp_path / "a.mp4")) as frames,
            ResultWriter(tmp_path / "out", frames.info) as results,
            pytest.raises(ValueError, match=r"labels are \[H, W\] = \[96, 128\] uint8; got uint8"),
        ):
            results.write(next(frames), np.zeros((4, 4), np.uint8))

    def test_frames_must_be_replayed_first(self, tmp_path):
        clip = encode(tmp_path / "a.mp4")
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path / "out", stop=7)
        with (
            read(clip) as frames,
            ResultWriter(tmp_path / "out", frames.info, resume=True, objects={1: ""}) as results,
            pytest.raises(ValueError, match="7 frames are finished already: give them to replay first"),
        ):
            results.write(next(frames), labels_of(0))


def test_colours_of_the_overlay_are_those_of_the_palette():
    from pliant.video.draw import BRIGHT, draw_overlay

    image, labels = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 2
    drawn = draw_overlay(image, labels, opacity=0.5, outline=2)
    assert not drawn[labels == 0].any() and not image.any()
    assert drawn[20, 20].tolist() == pytest.approx((BRIGHT[2] / 2).tolist(), abs=1)
    assert drawn[11, 20].tolist() == BRIGHT[2].tolist()
    order = np.argsort(PALETTE.astype(int).sum(1), kind="stable")
    assert (BRIGHT[order[1:]] >= PALETTE[order[1:]]).all()
