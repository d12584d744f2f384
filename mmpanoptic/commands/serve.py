"""Try a model in the browser, or ask it by JSON: a small web server."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.utils import threads

EXAMPLES = """
  %(prog)s nuclei                          # a model that comes with mmpanoptic
  %(prog)s work_dirs/demo                  # a run: its own config, its best or newest weights
  %(prog)s CONFIG CHECKPOINT --port 8080 --max-megapixels 40
  %(prog)s work_dirs/demo --host 0.0.0.0 --allow-host gpu7.example.org
  curl --data-binary @cells.png http://127.0.0.1:8000/predict

The page: drop an image or take the webcam; overlay, table of segments, names under the pointer,
thresholds as sliders, downloads. The interface: docs/serve.md. Ctrl-C ends the server when the
running requests are answered.

There is no password: who reaches the address can use the model. --host 127.0.0.1, the default, is
this machine alone.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    model = "config, folder of a run, or name of a model that comes with mmpanoptic"
    parser.take("config", metavar="MODEL", help=model)
    parser.take("checkpoint", help="weights, behind a config")
    at_least = cli.at_least
    parser.add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add("--port", type=at_least(0), default=8000, help="default 8000; 0 takes a free one")
    parser.add(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of this server that browsers may use besides localhost and addresses",
    )
    parser.add("--max-mb", type=at_least(0.001, float), default=20.0, help="of a file (default 20)")
    parser.add(
        "--max-megapixels",
        type=at_least(0.001, float),
        default=16.0,
        help="of an image, read from its header before it is decoded (default 16)",
    )
    parser.add(
        "--timeout",
        type=at_least(0.1, float),
        default=60.0,
        metavar="SECONDS",
        help="for a request to arrive, and for its answer (default 60)",
    )
    parser.add(
        "--workers",
        type=at_least(1),
        default=1,
        help="threads that decode and draw (default 1); the model runs once at a time",
    )
    parser.add("--queue", type=at_least(0), default=16, help="requests that wait (default 16)")
    parser.add(
        "--keep",
        type=at_least(0),
        default=16,
        metavar="N",
        help="images whose network outputs stay for the sliders, of all clients (default 16)",
    )
    parser.add("--keep-mb", type=at_least(0, float), default=1024.0, help="of them (default 1024)")
    parser.take("device", "threads", "palette", "cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Serve until SIGINT or SIGTERM.

    Raises:
        UsageError: If the port is none.
        ImportError: If Starlette or uvicorn is absent.
    """
    if args.port > 65535:
        raise cli.UsageError(f"--port must be at most 65535, got {args.port}")
    threads.settle()
    try:
        from mmpanoptic.serving.app import make_app
        from mmpanoptic.serving.server import listen, make_server
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        raise ImportError(f"serve needs {package}: pip install 'mmpanoptic[web]'") from error
    name = Path(args.config).expanduser().resolve().stem
    cli.complete_model(args)
    from mmpanoptic.apis import PanopticInferencer
    from mmpanoptic.serving.limits import Limits
    from mmpanoptic.serving.predictor import Predictor

    limits = Limits(
        body=int(args.max_mb * 2**20),
        pixels=int(args.max_megapixels * 1e6),
        seconds=args.timeout,
        workers=args.workers,
        waiting=args.queue,
        kept=args.keep,
        kept_bytes=int(args.keep_mb * 2**20),
    )
    with listen(args.host, args.port) as taken:
        inferencer = PanopticInferencer(
            args.config, args.checkpoint, args.device, args.cfg_options, args.trust
        )
        app = make_app(Predictor(inferencer, name, limits, args.palette), args.allow_host)
        if not is_loopback(args.host):
            yield (
                f"warning: --host {args.host} is reached from other machines, and there is no "
                "password; 127.0.0.1 is this machine alone"
            )
        shown = f"[{args.host}]" if ":" in args.host else args.host
        yield f"serving {name} on http://{shown}:{taken.getsockname()[1]} (Ctrl-C ends it)"
        make_server(app, 2 * args.timeout + 5).run(sockets=[taken])
    yield "stopped; no request was left"


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


main = cli.Command(build_parser, run)
