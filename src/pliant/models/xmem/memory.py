"""XMem's working memory (recent frames) and long-term memory (prototypes), and the read over both.

A frame's h w tokens stay together until they are consolidated. Objects that joined at one frame form a group;
a group has values for the frames since then. Tensors lie token by token: keys [n, C_k], values [n, K_g C_v].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MemoryOptions", "XMemMemory", "similarity"]

_LIFE_START = 1e-7  # keeps the usage of a token that was never read finite


@dataclass(frozen=True)
class MemoryOptions:
    """Sizes of the memories. Frames are memorised frames.

    long_term: whether old frames become prototypes; without, the working memory grows without bound.
    max_frames, min_frames: working frames at which consolidation starts, and that it leaves. prototypes:
    tokens that a consolidation makes. max_long_term: prototypes held at most. count_long_term_usage: whether
    prototypes that are not read go first. top_k: tokens that a query reads. official_alignment: pair the
    values of a late group with the newest keys of the store, as the published code does, also where these
    belong to other frames.
    """

    long_term: bool = True
    max_frames: int = 10
    min_frames: int = 5
    prototypes: int = 128
    max_long_term: int = 10_000
    count_long_term_usage: bool = True
    top_k: int | None = 30
    official_alignment: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.min_frames < self.max_frames:
            raise ValueError(f"min_frames {self.min_frames} and max_frames {self.max_frames}: expected 2 <= min < max")


def similarity(key: Tensor, shrinkage: Tensor, query_key: Tensor, selection: Tensor) -> Tensor:
    """s_j / sqrt(C_k) sum_c e_ic (-k_jc^2 + 2 k_jc q_ic - q_ic^2), [n, m], at most 0.

    key k [n, C_k] and shrinkage s [n, 1] of memory tokens; query_key q and selection e [m, C_k].
    """
    squares = key.square() @ selection.T
    mixed = key @ (query_key * selection).T
    own = (query_key.square() * selection).sum(1)
    return (2 * mixed - squares - own) * (shrinkage / math.sqrt(key.shape[1]))


@dataclass(slots=True)
class _Frame:
    """A working frame: its tokens, without values."""

    key: Tensor  # [h w, C_k]
    shrinkage: Tensor  # [h w, 1]
    selection: Tensor  # [h w, C_k]
    use: Tensor  # [h w], affinity received so far
    life: float  # reads so far
    permanent: bool


@dataclass(slots=True)
class _Group:
    """Values of the objects that joined at one frame."""

    objects: int
    frames: list[_Frame]
    values: list[Tensor]  # one [h w, K_g C_v] a frame of ``frames``
    long_values: Tensor  # [n_g, K_g C_v]
    long_index: Tensor  # [n_g], the prototypes that ``long_values`` belong to


@dataclass(slots=True)
class XMemMemory:
    """Working and long-term memory of one stream."""

    options: MemoryOptions
    frames: list[_Frame] = field(default_factory=list)
    groups: list[_Group] = field(default_factory=list)
    long_key: Tensor | None = None  # [n, C_k]
    long_shrinkage: Tensor | None = None  # [n, 1]
    long_use: Tensor | None = None  # [n]
    long_life: Tensor | None = None  # [n]

    def sizes(self) -> tuple[int, int]:
        """Tokens in working and in long-term memory."""
        return sum(len(f.key) for f in self.frames), 0 if self.long_key is None else len(self.long_key)

    def nbytes(self) -> int:
        held = [t for f in self.frames for t in (f.key, f.shrinkage, f.selection, f.use)]
        held += [t for g in self.groups for t in (*g.values, g.long_values, g.long_index)]
        held += [t for t in (self.long_key, self.long_shrinkage, self.long_use, self.long_life) if t is not None]
        return sum(t.nbytes for t in held)

    # Reading

    def read(self, query_key: Tensor, selection: Tensor) -> Tensor:
        """Values [K, C_v, h, w] for a query key and its selection [1, C_k, h, w]; counts what was read."""
        size = query_key.shape[-2:]
        query, selected = _tokens(query_key), _tokens(selection)
        result = []
        for number, group in enumerate(self.groups):
            frames, long_index = self._keys_of(group)
            key = torch.cat([*self._long(self.long_key, long_index), *(f.key for f in frames)])
            shrinkage = torch.cat([*self._long(self.long_shrinkage, long_index), *(f.shrinkage for f in frames)])
            value = torch.cat([group.long_values, *group.values])
            weight, index = _affinity(similarity(key, shrinkage, query, selected), self.options.top_k)
            readout = F.embedding_bag(index, value, per_sample_weights=weight, mode="sum")
            result.append(readout.T.reshape(group.objects, -1, *size))
            if number == 0 and self.options.long_term:
                used = weight.new_zeros(len(key)).index_add_(0, index.flatten(), weight.flatten())
                self._count(used, frames, long_index)
        return torch.cat(result)

    def _keys_of(self, group: _Group) -> tuple[list[_Frame], Tensor]:
        """Working frames and prototypes whose keys go with the values of ``group``."""
        if not self.options.official_alignment:
            return group.frames, group.long_index
        count, size = len(group.long_index), self.sizes()[1]
        return self.frames[-len(group.frames) :], torch.arange(size - count, size)

    def _long(self, tensor: Tensor | None, index: Tensor) -> list[Tensor]:
        return [] if tensor is None else [tensor[index]]

    def _count(self, used: Tensor, frames: list[_Frame], long_index: Tensor) -> None:
        if len(long_index) and self.options.count_long_term_usage:
            self.long_use[long_index] += used[: len(long_index)]
            self.long_life[long_index] += 1
        start = len(long_index)
        for frame in frames:
            frame.use += used[start : start + len(frame.key)]
            frame.life += 1
            start += len(frame.key)

    # Writing

    def add(self, key: Tensor, shrinkage: Tensor, selection: Tensor, value: Tensor, *, permanent: bool = False) -> None:
        """Remember a frame, then consolidate if there are ``max_frames``.

        key, selection [1, C_k, h, w]; shrinkage [1, 1, h, w]; value [K, C_v, h, w], K at least the objects
        known: further ones form a new group. Permanent frames are never consolidated.
        """
        tokens = _tokens(key)
        use = tokens.new_zeros(len(tokens))
        frame = _Frame(tokens, _tokens(shrinkage), _tokens(selection), use, _LIFE_START, permanent)
        self.frames.append(frame)
        known = sum(group.objects for group in self.groups)
        if len(value) > known:
            width = (len(value) - known) * value.shape[1]
            none = torch.zeros(0, dtype=torch.long, device=value.device)
            self.groups.append(_Group(len(value) - known, [], [], value.new_zeros(0, width), none))
        start = 0
        for group in self.groups:
            group.frames.append(frame)
            group.values.append(value[start : start + group.objects].flatten(2).flatten(0, 1).T.contiguous())
            start += group.objects
        if self.options.long_term and len(self.frames) >= self.options.max_frames:
            self._consolidate()

    def forget(self, index: int) -> None:
        """Remove object ``index`` (0-based)."""
        for group in self.groups:
            if index < group.objects:
                channels = group.values[0].shape[1] // group.objects
                kept = torch.ones(group.objects, dtype=torch.bool)
                kept[index] = False
                kept = kept.repeat_interleave(channels)
                group.values = [value[:, kept] for value in group.values]
                group.long_values = group.long_values[:, kept]
                group.objects -= 1
                break
            index -= group.objects
        self.groups = [group for group in self.groups if group.objects]

    # Consolidation

    def _consolidate(self) -> None:
        candidates, held = self._choose()
        if not candidates:
            return
        self._remove_obsolete()
        self._add_prototypes(candidates, held)
        if self.options.official_alignment:
            self._sieve_as_published()
        else:
            for group in self.groups:
                pairs = zip(group.frames, group.values)
                kept = [(f, v) for f, v in pairs if not any(f is c for c in candidates)]
                group.frames, group.values = [f for f, _ in kept], [v for _, v in kept]
        self.frames = [f for f in self.frames if not any(f is c for c in candidates)]

    def _choose(self) -> tuple[list[_Frame], list[list[Tensor]]]:
        """Frames to consolidate, and for each group its values of the newest of these."""
        newest = self.options.min_frames - 1
        if self.options.official_alignment:
            candidates = self.frames[1:-newest]
            whole, least = len(self.frames), self.options.min_frames + 1
            eligible = [len(g.values) == whole or len(g.values) > least for g in self.groups]
            return candidates, [g.values[1:-newest] if ok else [] for g, ok in zip(self.groups, eligible)]
        candidates = [frame for frame in self.frames[:-newest] if not frame.permanent]
        return candidates, [
            [v for f, v in zip(g.frames, g.values) if any(f is c for c in candidates)] for g in self.groups
        ]

    def _sieve_as_published(self) -> None:
        newest = self.options.min_frames - 1
        for group in self.groups:
            if len(group.values) >= self.options.min_frames + 1:
                group.values = group.values[:1] + group.values[-newest:]
                group.frames = group.frames[:1] + group.frames[-newest:]

    def _add_prototypes(self, candidates: list[_Frame], held: list[list[Tensor]]) -> None:
        """Prototypes: the most used candidate tokens, with values read from all candidates of a group."""
        key = torch.cat([f.key for f in candidates])
        shrinkage = torch.cat([f.shrinkage for f in candidates])
        selection = torch.cat([f.selection for f in candidates])
        usage = torch.cat([f.use / f.life for f in candidates])
        chosen = usage.topk(min(self.options.prototypes, len(usage))).indices
        scores = similarity(key, shrinkage, key[chosen], selection[chosen])  # [candidates, prototypes]
        offset = self.sizes()[1]
        for group, values in zip(self.groups, held):
            if not values:
                continue
            value = torch.cat(values)
            valid = chosen >= len(key) - len(value)  # tokens of frames that the group was in
            affinity = scores[-len(value) :, valid].softmax(dim=0)
            group.long_values = torch.cat([group.long_values, affinity.T @ value])
            group.long_index = torch.cat([group.long_index, offset + valid.nonzero()[:, 0]])
        new_use, new_life = usage.new_zeros(len(chosen)), usage.new_full((len(chosen),), _LIFE_START)
        new = (key[chosen], scores.softmax(dim=0).T @ shrinkage, new_use, new_life)
        old = (self.long_key, self.long_shrinkage, self.long_use, self.long_life)
        self.long_key, self.long_shrinkage, self.long_use, self.long_life = (
            b if a is None else torch.cat([a, b]) for a, b in zip(old, new)
        )

    def _remove_obsolete(self) -> None:
        """Make room for the next prototypes: the least used go, ties with the last of them too."""
        surplus = self.sizes()[1] - (self.options.max_long_term - self.options.prototypes)
        if surplus <= 0:
            return
        usage = self.long_use / self.long_life
        kept = usage > usage.kthvalue(surplus).values
        position = torch.cumsum(kept, 0) - 1
        for group in self.groups:
            stays = kept[group.long_index]
            group.long_values = group.long_values[stays]
            group.long_index = position[group.long_index[stays]]
        self.long_key, self.long_shrinkage = self.long_key[kept], self.long_shrinkage[kept]
        self.long_use, self.long_life = self.long_use[kept], self.long_life[kept]


def _tokens(x: Tensor) -> Tensor:
    """[1, C, h, w] -> [h w, C]."""
    return x[0].flatten(1).T.contiguous()


def _affinity(scores: Tensor, top_k: int | None) -> tuple[Tensor, Tensor]:
    """Weights [m, k] and token numbers [m, k] of what each query reads, from similarities [n, m]."""
    kept, index = scores.T.topk(min(top_k or len(scores), len(scores)), dim=1)
    return kept.softmax(dim=1), index
