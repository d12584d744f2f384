"""Questions about pairs of instances that are asked later, and only of some pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class PairQuery:
    """Features of K instances, and whom to ask about pairs of them.

    A fusion head asks about few of the K * K pairs, and knows about which only when it has the
    masks; so the RoI head hands over the question instead of the answers. It can be a field of an
    ``InstanceData``: filters and orders of the instances apply to it.

    Args:
        feats (Tensor): ``(K, ...)``, features of the instances.
        ask (Callable): Takes ``feats`` and int64 pairs ``(P, 2)`` of positions in it, and returns
            float32 ``(P,)``.
    """

    def __init__(self, feats: Tensor, ask: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.feats = feats
        self.ask = ask

    def __len__(self) -> int:
        return len(self.feats)

    def __getitem__(self, item: slice | Tensor) -> PairQuery:
        return PairQuery(self.feats[item], self.ask)

    @staticmethod
    def cat(queries: Sequence[PairQuery]) -> PairQuery:
        """Join queries about different instances into one."""
        return PairQuery(torch.cat([query.feats for query in queries]), queries[0].ask)

    def __call__(self, pairs: Tensor) -> Tensor:
        """Ask about pairs.

        Args:
            pairs (Tensor): int64 ``(P, 2)``, positions of instances.

        Returns:
            Tensor: float32 ``(P,)``.
        """
        return self.ask(self.feats, pairs)
