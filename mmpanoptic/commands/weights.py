"""List, explain, fetch and verify published weights: what mmpanoptic://ID stands for.

Configs and commands fetch what they need by themselves, once, into MMPANOPTIC_HOME (default: the
platform's cache folder). This tool looks into that cache and fills it, for machines without a
network (MMPANOPTIC_OFFLINE=1) too. docs/weights.md is the list with all facts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s list imagenet
  %(prog)s info imagenet/hrnet-w48
  %(prog)s fetch imagenet/resnet50 timm://resnet50.a1_in1k
  %(prog)s fetch --config panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024
  %(prog)s verify
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("action", choices=tuple(ACTIONS))
    parser.add(
        "names",
        nargs="*",
        metavar="ID",
        help="ids; list takes beginnings of ids, fetch other addresses too; verify without any "
        "looks at all files that are there",
    )
    parser.add("--config", help="fetch all that a config, a file or a shipped name, starts from")
    parser.add("--again", action="store_true", help="fetch even what is there")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Do what the action says."""
    if (args.config or args.again) and args.action != "fetch":
        raise cli.UsageError("--config and --again go with fetch")
    if args.action in ("info", "fetch") and not (args.names or args.config):
        raise cli.UsageError(f"{args.action} needs an ID")
    yield from ACTIONS[args.action](args)


def list_weights(args: argparse.Namespace) -> Iterator[str]:
    """Yield a line for each entry."""
    from mmpanoptic.checkpoints.weights import manifest

    chosen = [e for e in manifest().values() if e.id.startswith(tuple(args.names) or "")]
    if not chosen:
        raise cli.Failure(
            f"no id begins with {' or '.join(args.names)}; list without any shows all"
        )
    width = max(len(entry.id) for entry in chosen)
    for entry in chosen:
        size = entry.megabytes
        megabytes = f"{size:4.0f} MB" if size else "      -"
        state = "here" if entry.remote.path.exists() else "by hand" if not entry.url else ""
        yield f"{entry.id:{width}}  {megabytes}  {state:7}  {entry.licence}"


def explain(args: argparse.Namespace) -> Iterator[str]:
    """Yield all that is known of each entry."""
    from mmpanoptic.checkpoints.weights import published

    for name in args.names:
        for label, value in published(name).facts():
            yield f"{label:12} {value}"


def fetch(args: argparse.Namespace) -> Iterator[str]:
    """Download and yield the files."""
    from mmpanoptic.apis import get_config
    from mmpanoptic.checkpoints.weights import SCHEME, addresses_in, is_address, locate
    from mmpanoptic.engine.config import resolve_variables

    names = [name if is_address(name) else SCHEME + name for name in args.names]
    if args.config:
        found = addresses_in(resolve_variables(get_config(args.config)))
        names += [address for address in found if is_address(address)]
        for path in found:
            if not is_address(path):
                yield f"{path} is a file of yours"
    for name in dict.fromkeys(names):
        yield f"{name}: {locate(name, args.again).path}"


def verify(args: argparse.Namespace) -> Iterator[str]:
    """Hash files of the cache completely and yield what is found."""
    from mmpanoptic.checkpoints import DamagedCheckpointError
    from mmpanoptic.checkpoints.download import check_cached
    from mmpanoptic.checkpoints.weights import manifest, published

    entries = [published(name) for name in args.names] or list(manifest().values())
    here = [entry for entry in entries if entry.remote.path.exists()]
    absent = [entry.id for entry in entries if entry not in here]
    if args.names and absent:
        raise cli.Failure(f"not in the cache: {', '.join(absent)}")
    damaged = 0
    for entry in cli.track(here, "hashing") if here else ():
        try:
            record = check_cached(entry.remote, completely=True)
        except DamagedCheckpointError as error:
            damaged += 1
            yield str(error)
            continue
        proof = "as published" if entry.sha256 or entry.md5 else "as it came; no hash is published"
        yield f"{entry.id}: sha256 {record['sha256']}, {proof}"
    if damaged:
        raise cli.Failure(f"{damaged} of {len(here)} files are damaged")
    if not here:
        yield "no weights of the manifest are in the cache"


ACTIONS = {"list": list_weights, "info": explain, "fetch": fetch, "verify": verify}


main = cli.Command(build_parser, run)
