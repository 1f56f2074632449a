"""Clip-wise streams: which clips are run, how they are averaged, when a frame comes out."""

from __future__ import annotations

import pytest
import torch

from pliant.inference.clips import ClipStream, predict_stream


class Recorder:
    """A predictor whose logits for item i at place j of a clip are (10 i + j) / 1000, and which notes the
    clips.
    """

    def __init__(self):
        self.clips, self.batches = [], []

    def __call__(self, clips):
        self.clips += [list(clip) for clip in clips]
        self.batches.append(len(clips))
        return torch.tensor([[[[0.01 * i + 0.001 * j]] for j, i in enumerate(clip)] for clip in clips])


def run(count, predict=None, **options):
    """(mean logits of ``count`` items, the clips that were run)."""
    predict = predict or Recorder()
    values = list(predict_stream(range(count), ClipStream(predict, average="logits", **options)))
    return torch.stack(values).double().logit().flatten(), predict.clips


def predictions(count, **options):
    """How often each of ``count`` items is in a clip."""
    clips = run(count, **options)[1]
    return [sum(clip.count(item) for clip in clips) for item in range(count)]


def test_regular_clips_overlap():
    assert run(13)[1] == [list(range(8)), list(range(5, 13))]


def test_last_clip_moves_back_to_end_at_the_last_frame():
    assert run(10)[1] == [list(range(8)), list(range(2, 10))]


@pytest.mark.parametrize("count, clips", [(1, 1), (7, 1), (8, 1), (9, 2), (12, 2), (13, 2), (14, 3)])
def test_number_of_clips(count, clips):
    assert len(run(count)[1]) == clips


def test_a_short_stream_is_continued_by_its_mirror_image():
    assert run(3)[1] == [[0, 1, 2, 1, 0, 1, 2, 1]]
    assert run(1)[1] == [[0] * 8]


def test_average_by_hand():
    # Clips 0-3, 2-5, 4-7, 6-9: item 2 is at places 2 and 0. Those of the mirror image would not count.
    places = [(0,), (1,), (2, 0), (3, 1), (2, 0), (3, 1), (2, 0), (3, 1), (2,), (3,)]
    expected = [0.01 * item + 0.001 * sum(p) / len(p) for item, p in enumerate(places)]
    torch.testing.assert_close(
        run(10, length=4, overlap=2)[0], torch.tensor(expected).double(), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        run(2, length=4, overlap=2)[0], torch.tensor([0, 0.011]).double(), atol=1e-6, rtol=0
    )


def test_probabilities_or_logits_are_averaged():
    def predict(clips):  # the first clip says 3, the second -1
        return torch.stack([torch.full((4, 1, 1), 3.0 if clip[0] == 0 else -1.0) for clip in clips])

    def middle(average):
        stream = ClipStream(predict, length=4, overlap=2, average=average)
        return list(predict_stream(range(6), stream))[2].item()

    assert middle("logits") == pytest.approx(torch.tensor(1.0).sigmoid().item())
    assert middle("probabilities") == pytest.approx(torch.tensor([3.0, -1.0]).sigmoid().mean().item())


def test_official_tails_count_every_repeat():
    """The numbers of predictions that the rule of d2conv3d's code gives."""
    assert predictions(10, tail="repeat_last") == [1] * 5 + [2] * 3 + [1, 4]
    assert predictions(11, tail="repeat_last") == [1] * 5 + [2] * 3 + [1, 1, 11]
    assert predictions(10, tail="repeat_last", overlap=7) == [1, 2, 3, 4, 5, 6, 7, 8, 8, 36]
    assert predictions(3, tail="repeat_last") == [1, 1, 6]


def test_repeats_of_the_last_frame_are_averaged():
    assert run(1, tail="repeat_last")[0].item() == pytest.approx(0.0035, abs=1e-6)


def test_3dc_seg_fills_short_clips_in_front():
    assert run(7, tail="repeat_first")[1] == [[0, 0, 1, 2, 3, 4, 5, 6], [5] * 7 + [6]]


@pytest.mark.parametrize("tail", ["shift", "repeat_last", "repeat_first"])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 12, 13, 31])
def test_constant_in_constant_out(count, tail):
    def predict(clips):
        return torch.full((len(clips), 8, 1, 1), 0.7)

    values = list(predict_stream(range(count), ClipStream(predict, tail=tail)))
    assert len(values) == count
    torch.testing.assert_close(torch.stack(values), torch.full((count, 1, 1), 0.7).sigmoid())


@pytest.mark.parametrize("tail", ["shift", "repeat_last"])
@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_batching_clips_changes_nothing(overlap, tail):
    one, _ = run(37, overlap=overlap, tail=tail)
    predict = Recorder()
    four, _ = run(37, predict, overlap=overlap, tail=tail, batch=4)
    assert torch.equal(one, four)
    assert max(predict.batches) == 4


def test_a_frame_comes_out_one_clip_after_it_went_in_at_the_latest():
    stream, returned = ClipStream(Recorder()), 0
    for pushed in range(1, 200):
        returned += len(stream.push(pushed - 1))
        assert pushed - returned <= 7
    assert returned + len(stream.finish()) == 199


@pytest.mark.parametrize("batch", [1, 3])
def test_memory_is_bounded(batch):
    stream = ClipStream(Recorder(), batch=batch)
    for item in range(500):
        stream.push(item)
        assert len(stream._items) <= 8 + 5 * (batch - 1)
        assert len(stream._sums) <= 8 + 5 * (batch - 1)


def test_no_frames_give_nothing():
    assert list(predict_stream([], ClipStream(Recorder()))) == []


@pytest.mark.parametrize(
    "options, text",
    [
        ({"overlap": 8}, "overlap 8, length 8"),
        ({"length": 0, "overlap": 0}, "length 0"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"tail": "cut"}, "tail must be one of shift, short, repeat_last, repeat_first, got 'cut'"),
        ({"average": "votes"}, "average must be one of probabilities, logits, got 'votes'"),
    ],
)
def test_bad_options_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        ClipStream(Recorder(), **options)
