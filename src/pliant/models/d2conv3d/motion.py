"""What moves against the camera: optical flow between a frame and the one before, the camera's part taken out."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MotionEncoder", "against_the_camera", "motion_between", "optical_flow"]

_CHANNELS = 3  # of the motion in one direction


def optical_flow(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where every pixel of ``image`` [H, W] uint8 grey lies in ``other``: (dx, dy) in pixels, [H, W, 2] float32.

    Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, by OpenCV, with variational refinement:
    without it the outlines of what moves are lost. Sides below 16 pixels are too small for it: nothing moves there.
    """
    if min(image.shape) < 16:
        return np.zeros((*image.shape, 2), np.float32)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(image, other, None)


def against_the_camera(flow: Tensor, rounds: int = 4) -> Tensor:
    """What is left of a flow field [B, 2, h, w] when the camera's part is taken out, of its shape, float32.

    The camera's part is the affine motion that most places follow: least squares over all of them, repeated with
    weights 1 / (1 + r² / m), r what is left of a place and m the median of r² (Cauchy's weights), ``rounds`` times.
    Gradients pass through the flow, not through the fit.
    """
    count, _, height, width = flow.shape
    flow = flow.float()
    rows = torch.linspace(-1, 1, height, device=flow.device)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width, device=flow.device).expand(height, width)
    basis = torch.stack([torch.ones_like(rows), rows, columns]).flatten(1)  # [3, h w]
    with torch.no_grad():
        values, weights = flow.flatten(2), flow.new_ones(count, 1, height * width)
        for _ in range(rounds):
            weighted = basis * weights  # [B, 3, h w]
            normal = weighted @ basis.T + 1e-3 * torch.eye(3, device=flow.device)
            motion = torch.linalg.solve(normal, weighted @ values.transpose(1, 2))  # [B, 3, 2]
            left = (values - motion.transpose(1, 2) @ basis).square().sum(1, keepdim=True)
            weights = 1 / (1 + left / left.median(dim=2, keepdim=True).values.clamp_min(1e-4))
        camera = (motion.transpose(1, 2) @ basis).view_as(flow)
    return flow - camera


@torch.no_grad()
def motion_between(before: Tensor, images: Tensor) -> Tensor:
    """Motion against the camera from ``before`` to ``images`` and back, [N, 6, H / 2, W / 2] float32.

    before, images: [N, 3, H, W], normalised in any one way, H and W even. Channels 0 to 2: the motion of each place
    of ``images`` since ``before``, 3 to 5: that of each place of ``before`` until ``images``: log(1 + r), r / (1 + r)
    times its direction (dx, dy). r is the length of what is left of the flow without the camera's part, in units of 0.3
    pixels plus the frame's median of it: slow films and fast ones look alike.
    """
    pairs = [_grey(torch.stack(pair)) for pair in zip(before, images)]
    flows = [flow for old, new in pairs for flow in (optical_flow(new, old), optical_flow(old, new))]
    flow = torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(images.device)
    left = against_the_camera(F.avg_pool2d(flow, 2))
    length = left.square().sum(1, keepdim=True).sqrt()
    unit = 0.3 + length.flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
    motion = torch.cat([(length / unit).log1p(), left / (unit + length)], 1)
    return motion.unflatten(0, (-1, 2)).flatten(1, 2)


def _grey(pair: Tensor) -> np.ndarray:
    """[2, 3, H, W] -> [2, H, W] uint8: the channels' mean, the range of both frames stretched to 0 to 255."""
    grey = pair.float().mean(1)
    low, high = grey.min(), grey.max()
    return ((grey - low) * (255 / (high - low).clamp_min(1e-6))).round().byte().cpu().numpy()


class MotionEncoder(nn.Module):
    """Features of the motion in clips, [N, T, 6, h, w] -> [N, T, width, h, w] / 2, / 4, / 8, by plain convolutions.

    motion: ``motion_between`` of each frame and the one before it. What is said of the first frame's predecessor is
    not used, so that a clip stands for itself; a direction in which there is no frame is 0.
    """

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        inputs = 2 * _CHANNELS + 1
        self.fine1 = nn.Conv2d(inputs, widths[0], 5, 2, 2)
        self.fine2 = nn.Conv2d(widths[0], widths[0], 3, 1, 1)
        self.middle = nn.Conv2d(widths[0], widths[1], 3, 2, 1)
        self.coarse = nn.Conv2d(widths[1], widths[2], 3, 2, 1)

    def forward(self, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = len(motion)
        x = self.both_directions(motion).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        fine = F.relu(self.fine2(F.relu(self.fine1(x))))
        middle = F.relu(self.middle(fine))
        coarse = F.relu(self.coarse(middle))
        return tuple(x.unflatten(0, (count, -1)) for x in (fine, middle, coarse))

    @staticmethod
    def both_directions(motion: Tensor) -> Tensor:
        """[N, T, 6, h, w] -> [N, T, 7, h, w]: motion since the frame before, until the one after, the lesser length.

        What the frame before or after uncovers moves in one of the two flows only: hence the lesser.
        """
        nothing = torch.zeros_like(motion[:, :1, :_CHANNELS])
        since = torch.cat([nothing, motion[:, 1:, :_CHANNELS]], 1)
        until = torch.cat([motion[:, 1:, _CHANNELS:], nothing], 1)
        lesser = torch.minimum(since[:, :, :1], until[:, :, :1])
        if motion.shape[1] > 1:
            lesser[:, 0], lesser[:, -1] = until[:, 0, :1], since[:, -1, :1]
        return torch.cat([since, until, lesser], 2)
