"""Write the tables of docs/weights.md from the manifest; a test keeps the two equal."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmpanoptic.checkpoints.weights import PublishedWeights

PAGE = Path(__file__).parents[2] / "docs" / "weights.md"
EXAMPLES = """
  %(prog)s
"""
MARK = "<!-- From here on made by tools/dev/weights_page.py from the manifest, weights.yml. -->"


def tables() -> str:
    """Return what follows the mark: the manifest as tables, its groups as sections."""
    import yaml

    from mmpanoptic.apis import get_config, list_configs
    from mmpanoptic.checkpoints.weights import MANIFEST, addresses_in, manifest

    leaves = [p for p in list_configs().values() if p.read_text("utf-8").startswith('"""')]
    starts = Counter(a for path in leaves for a in dict.fromkeys(addresses_in(get_config(path))))
    inputs = yaml.safe_load(MANIFEST.read_text("utf-8"))["inputs"]
    names = {(i["order"], tuple(i["mean"]), tuple(i["std"])): name for name, i in inputs.items()}
    lines = ["", "| input | order | mean | std |", "|---|---|---|---|"]
    for (order, mean, std), name in names.items():
        lines.append(f"| {name} | {order} | {_numbers(mean)} | {_numbers(std)} |")
    group = None
    for entry in manifest().values():
        if entry.group != group:
            group = entry.group
            lines += ["", f"## {group}", "", "| ID | file | MB | hash | input | licence | for |"]
            lines += ["|---|---|---|---|---|---|---|"]
        name = names[entry.order, entry.mean, entry.std]
        lines.append(f"| {' | '.join(_cells(entry, name, starts[entry.address]))} |")
    return "\n".join(lines) + "\n"


def _cells(entry: PublishedWeights, input_name: str, starts: int) -> list[str]:
    file = f"[{entry.file}]({entry.url[0]})" if entry.url else f"[by hand]({entry.by_hand})"
    digest = f"sha256 {entry.sha256[:8]}" if entry.sha256 else f"md5 {entry.md5}"
    uses = [f"`{entry.config}`"] if entry.config else []
    uses += [f"{starts} configs" if starts > 1 else "1 config"] if starts else []
    notes = [*uses, entry.note, *(f"instead: {other}" for other in entry.instead)]
    return [
        f"`{entry.id}`",
        file,
        f"{entry.megabytes:.0f}" if entry.megabytes else "",
        digest if entry.sha256 or entry.md5 else "",
        input_name,
        f"[{entry.licence}]({entry.page})",
        "; ".join(note for note in notes if note),
    ]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.7g}" for value in values)


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    return cli.Parser(__doc__, EXAMPLES)


def run(args: argparse.Namespace) -> Iterator[str]:
    """Write the page."""
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n{tables()}", encoding="utf-8")
    yield f"{PAGE} written"


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
