"""The published rules of who gets a pixel; see :mod:`.paint_order`."""

from __future__ import annotations

from dataclasses import dataclass

from .paint_order import Numbers, Painting


@dataclass(frozen=True)
class FirstComeRule:
    """An instance takes what is free, unless too much of it is not.

    Panoptic Segmentation (arXiv:1801.00868), section 5, and Panoptic Feature Pyramid Networks
    (arXiv:1901.02446). What is not free is what the accepted masks cover.

    Attributes:
        overlap_thr (float): An instance is skipped if a larger fraction of it is covered.
    """

    overlap_thr: float

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k; see :class:`PaintRule`."""
        area = painting.area[k]
        return (area - free) / area <= self.overlap_thr, met < 0


@dataclass(frozen=True)
class NearestRule:
    """An instance takes what is free and what belongs to instances behind it.

    RAP, panoptic fusion: two checks against duplicates, one against what would be left.

    Attributes:
        values (Numbers): float32 ``(K,)``, relation values; the smaller is nearer. Of equal ones
            who was there first keeps the pixel.
        labels (Numbers): ``(K,)``, classes.
        overlap_thr (float): An instance is skipped if a larger fraction of it is covered by
            instances of its class, or if not more than this fraction of it would be visible.
        large_overlap_thr (float): An instance is skipped if it and one it meets cover each other
            by this fraction or more.
    """

    values: Numbers
    labels: Numbers
    overlap_thr: float
    large_overlap_thr: float

    def passes_duplicates(self, k: int, met: Numbers, painting: Painting) -> Numbers:
        """Check instance k against each that it meets: bool ``(K,)``, False for a duplicate."""
        large = (met / painting.area[k] >= self.large_overlap_thr) & (met > 0)
        return ~(large & (met / painting.visible >= self.large_overlap_thr))

    def passes_class(self, k: int, met: Numbers, painting: Painting) -> Numbers:
        """Check instance k against those of its class: bool scalar."""
        same = (met * (self.labels == self.labels[k])).sum()
        return same / painting.area[k] <= self.overlap_thr

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k; see :class:`PaintRule`."""
        behind = self.values > self.values[k]
        left = free + (met * behind).sum()
        accepted = left / painting.area[k] > self.overlap_thr
        accepted &= self.passes_class(k, met, painting)
        accepted &= self.passes_duplicates(k, met, painting).all()
        return accepted, behind


@dataclass(frozen=True)
class OccluderRule:
    """An instance takes what is free, and from those that it occludes what it overlaps.

    OCFusion (arXiv:1906.05896), algorithm 1, as RAP implements it.

    Attributes:
        occludes (Numbers): bool ``(K, K)``; entry (i, j): i lies on j.
        overlap_thr (float): An instance is skipped if not more than this fraction of it would be
            visible; one that meets nothing is not.
        pair_thr (float): A pair is looked at if their overlap is at least this fraction of the
            instance or of what is visible of the other.
    """

    occludes: Numbers
    overlap_thr: float
    pair_thr: float

    def asks(self, k: int, met: Numbers, painting: Painting) -> Numbers:
        """Tell about which of the others the rule asks who lies on whom: bool ``(K,)``."""
        large = met / painting.area[k] >= self.pair_thr
        large |= met / painting.visible >= self.pair_thr
        return large & (met > 0)

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k; see :class:`PaintRule`."""
        below = self.asks(k, met, painting) & self.occludes[k]
        left = free + (met * below).sum()
        accepted = left / painting.area[k] > self.overlap_thr
        accepted |= (met == 0).all() & (free > 0)
        return accepted, below
