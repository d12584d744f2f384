"""What a checked dataset holds, in words: sizes, balance of the classes, unlabelled pixels."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .checking import CheckReport

_RARE = 10
"""Fewer segments of a class are worth a line."""


def quantiles(sizes: Sequence[int]) -> str:
    """Write the smallest, the quartiles and the largest of some sizes."""
    if not sizes:
        return ""
    values = np.quantile(np.asarray(sizes), (0, 0.25, 0.5, 0.75, 1))
    return ", ".join(f"{value:.0f}" for value in values)


def describe_balance(report: CheckReport) -> list[str]:
    """Say what is missing or out of balance in a dataset.

    Args:
        report: With a label table.

    Returns:
        list[str]: Lines; none about what is in order.
    """
    table, lines = report.table, list[str]()
    if table is None:
        return lines
    share = 100 * report.void / report.pixels if report.pixels else 0
    lines.append(f"unlabelled: {share:.2f} % of the pixels")
    counts = {
        "without a thing": report.without_things,
        "without stuff": report.without_stuff,
        "without annotation (never used)": report.unannotated,
    }
    total = report.images + report.unannotated
    lines += [f"images {text}: {count} of {total}" for text, count in counts.items() if count]
    absent = [label.name for label in table if not report.counts[label.index].segments]
    if absent:
        lines.append(f"classes without a segment: {', '.join(absent)}")
    rare = [
        f"{label.name} ({report.counts[label.index].segments})"
        for label in table
        if 0 < report.counts[label.index].segments < _RARE
    ]
    if rare and report.images >= _RARE:
        lines.append(f"classes with less than {_RARE} segments: {', '.join(rare)}")
    for label in table:
        count = report.counts[label.index]
        if label.isthing and count.segments and count.segments == count.crowds:
            lines.append(
                f"all {count.segments} segments of {label.name} are crowd: there is no instance "
                "of it to learn; own_data.py --crowds instances converts CVAT's masks as instances"
            )
    return lines


def choose_examples(
    report: CheckReport, count: int = 12, seed: int = 0
) -> list[tuple[dict[str, Any], str]]:
    """Choose images to look at: the worst ones, then some at random.

    Worst are those with the most problems, then those with the most unlabelled pixels.

    Args:
        report: Of the dataset.
        count: Images of each kind.
        seed: Of the random ones.

    Returns:
        list[tuple[dict, str]]: Records, and why they are shown.
    """
    problems = Counter(repr(problem.image_id) for problem in report.problems)
    kinds: dict[str, list[str]] = {}
    for problem in report.problems:
        known = kinds.setdefault(repr(problem.image_id), [])
        if problem.kind not in known:
            known.append(problem.kind)

    def badness(record: dict[str, Any]) -> tuple[int, float]:
        share = report.void_shares.get(record["annotation_index"], 0.0)
        return problems[repr(record["img_id"])], share

    worst = sorted(report.records, key=badness, reverse=True)[:count]
    examples = []
    for record in worst:
        number, share = badness(record)
        names = ", ".join(kinds.get(repr(record["img_id"]), []))
        wrong = f"{number} problems ({names}), " if number else ""
        examples.append((record, f"{wrong}{100 * share:.0f} % unlabelled"))
    rest = [record for record in report.records if record not in worst]
    chosen = random.Random(seed).sample(rest, min(count, len(rest)))  # noqa: S311
    return examples + [(record, "at random") for record in chosen]
