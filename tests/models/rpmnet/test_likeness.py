"""In what frames are compared: embedding and stages, reduced."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pliant.models.rpmnet import RPMNet
from pliant.models.rpmnet.likeness import find_basis, likeness
from pliant.models.rpmnet.presets import Preset


def stages_of(size: int = 16) -> tuple[torch.Tensor, ...]:
    """An embedding and three coarser maps, of 4, 6, 8 and 10 channels."""
    torch.manual_seed(0)
    return tuple(torch.randn(1, 4 + 2 * n, size >> n, size >> n) for n in range(4))


def test_without_a_basis_the_embedding_alone_is_compared():
    stages = stages_of()
    assert torch.equal(likeness(stages, None), F.normalize(stages[0], dim=1))


def test_a_whole_basis_keeps_the_mean_of_the_cosines():
    """One map of one value each, so that enlarging changes nothing."""
    torch.manual_seed(0)
    vectors = [torch.randn(1, channels, 2, 1) for channels in (4, 6, 8, 10)]
    basis = find_basis(tuple(vectors), 28)
    torch.testing.assert_close(basis.T @ basis, torch.eye(28))
    found = likeness(tuple(vectors), basis)[0, :, :, 0]
    expected = torch.stack([F.cosine_similarity(v[0, :, 0], v[0, :, 1], dim=0) for v in vectors]).mean()
    torch.testing.assert_close(found[:, 0] @ found[:, 1], expected)


def test_a_basis_holds_what_is_there():
    """Features within a plane need two channels: what is left out is nothing."""
    torch.manual_seed(0)
    plane, seen = torch.randn(2, 6), torch.rand(2, 64)
    features = (plane.T @ seen).reshape(1, 6, 8, 8)
    stages = (features, features)
    found = likeness(stages, find_basis(stages, 2))
    full = F.normalize(features, dim=1)
    torch.testing.assert_close(
        torch.einsum("ncp,ncq->npq", found.flatten(2), found.flatten(2)),
        torch.einsum("ncp,ncq->npq", full.flatten(2), full.flatten(2)),
    )


@pytest.mark.parametrize("stem", ["table", "standard"])
@pytest.mark.parametrize("size", [(64, 64), (67, 93)])
def test_it_has_length_1_at_the_size_of_the_embedding(size: tuple[int, int], stem: str):
    network = RPMNet(Preset(references=1, likeness=24, stem=stem)).eval()
    with torch.inference_mode():
        stages = network.embed_stages(torch.rand(1, 3, *size))
        found = likeness(stages, find_basis(stages, 24))
    assert found.shape == (1, 24, -(-size[0] // 4), -(-size[1] // 4))
    torch.testing.assert_close(found.norm(dim=1), torch.ones_like(found[:, 0]))
