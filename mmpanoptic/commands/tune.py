"""Tune settings of a config: learning rate, loss weights, thresholds.

Every trial is a training of its own. With a checkpoint, settings of the fusion head are tuned
without any: the network runs once, and its outputs are fused again and again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmpanoptic.tuning import Outcome, SharedStudy

EXAMPLES = """
  %(prog)s panoptic-deeplab_r18-tiny_1xb8-500_shapes --space space.py --trials 20
  %(prog)s CONFIG CHECKPOINT --space thresholds.py --trials 300     # of the fusion head alone
  %(prog)s CONFIG --space space.py --storage postgresql+psycopg://USER@HOST/DATABASE

space.py:  space = {
               "optim_wrapper.optimizer.lr": dict(low=1e-4, high=1e-2, log=True),
               "max_iters": dict(choices=[200, 400]),
           }

The same command, started again or on other machines with the same --storage, goes on with the same
trials. optuna-dashboard STORAGE shows them.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config")
    parser.take("checkpoint", help="tune the fusion head with the outputs of these weights")
    parser.add("--space", required=True, type=Path, metavar="FILE", help="says what to tune")
    parser.add("--trials", type=cli.at_least(1), default=20, help="different ones (default 20)")
    parser.add("--metric", default="PQ", help="of the validation or test (default PQ)")
    parser.add("--minimize", action="store_true", help="less of the metric is better")
    parser.add(
        "--sampler",
        default="TPESampler",
        metavar="NAME",
        help="a class of optuna.samplers (default %(default)s); sampler=dict(type=...) of FILE",
    )
    parser.add("--seed", type=cli.at_least(0), default=0, help="of the sampler (default 0)")
    parser.add(
        "--storage",
        metavar="URL",
        help="where the trials are kept: sqlite:///FILE, journal:///FILE, postgresql+psycopg://... "
        "(default: sqlite in the work folder)",
    )
    parser.take(*cli.RUN_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Tune, and write tuning.json."""
    if args.launcher != "none":
        raise cli.UsageError("tune takes no --launcher; start it several times with one --storage")
    from mmpanoptic.apis.tuning import FUSION, read_space

    cfg = cli.read_run_config(args)
    space, file = read_space(args.space, cfg)
    unknown = set(file.keys()) - {"space", "sampler"}
    if unknown:
        raise cli.UsageError(f"{args.space} knows space and sampler, got {', '.join(unknown)}")
    others = [name for name in space if not name.startswith(FUSION)]
    if args.checkpoint and others:
        raise cli.UsageError(
            f"{', '.join(others)} need trainings; without CHECKPOINT every trial is one. With it, "
            f"all settings begin with {FUSION}"
        )
    work = Path(cfg.work_dir) / "tuning"
    study = open_study(args, cfg, space, work)
    sampler = dict(file.get("sampler") or {"type": args.sampler})
    if args.checkpoint:
        trials = tune_fusion(args, cfg, study, sampler)
    else:
        trials = tune_training(args, study, sampler, work)
    yield from report(args, study, trials, work)


def open_study(
    args: argparse.Namespace, cfg: Config, space: Mapping[str, Any], work: Path
) -> SharedStudy:
    """Open the study; trials of another config, checkpoint or space are in another one."""
    from mmengine.logging import MMLogger, print_log

    from mmpanoptic.engine.console import ALWAYS
    from mmpanoptic.tuning import SharedStudy, open_storage
    from mmpanoptic.tuning.report import Progress

    context = {
        "config": cfg.pretty_text,
        "checkpoint": args.checkpoint or "",
        "space": {name: repr(distribution) for name, distribution in space.items()},
        "metric": args.metric,
    }
    url = args.storage or f"sqlite:///{work.resolve() / 'study.db'}"
    direction = "minimize" if args.minimize else "maximize"
    study = SharedStudy(open_storage(url), "tune", space, [direction], context, 1.0)
    logger = MMLogger.get_current_instance()
    study.progress = Progress(logger, args.metric, not args.minimize, extra=ALWAYS)
    print_log(f"trials: study {study.study.study_name} in {url}", "current")
    return study


def sample(
    args: argparse.Namespace,
    study: SharedStudy,
    sampler: Mapping[str, Any],
    measure: Callable[[Mapping[str, Any]], Mapping[str, float]],
) -> list[Any]:
    """Let the sampler name trials until there are enough; a trial that raises is a failed one."""
    import time
    import traceback

    from mmpanoptic.apis.tuning import objective_of
    from mmpanoptic.tuning import Outcome
    from mmpanoptic.tuning.samplers import make_sampler

    def evaluate(trial: Any, params: Mapping[str, Any]) -> Outcome:
        start = time.perf_counter()
        try:
            metrics = dict(measure(params))
        except Exception:  # settings that cannot work are recorded; the tuning goes on
            return Outcome(error=traceback.format_exc())
        known = {"metrics": metrics, "seconds": time.perf_counter() - start}
        return Outcome([objective_of(metrics, args.metric)], known)

    # Mixed rather than added: neighbouring seeds must not share their sequences.
    seeds = 1_000_003 * args.seed
    return study.sample(args.trials, lambda n: make_sampler(sampler, seeds + n), evaluate)


def tune_training(
    args: argparse.Namespace, study: SharedStudy, sampler: Mapping[str, Any], work: Path
) -> list[Any]:
    """Train once for each trial."""
    from mmpanoptic.apis.tuning import read_last_validation

    def measure(params: Mapping[str, Any]) -> Mapping[str, float]:
        folder = work / "trials" / study.fingerprint(params)[:12]
        options = {**(args.cfg_options or {}), **params}
        pairs = [f"{name}={value}" for name, value in options.items()]
        trust = ["--trust"] if args.trust else []
        # A trial that was taken over from a dead worker goes on where that one was.
        cli.call_tool(
            "train.py",
            args.config,
            "--work-dir",
            folder,
            "--resume",
            *trust,
            "--cfg-options",
            *pairs,
        )
        return read_last_validation(folder, args.metric)

    return sample(args, study, sampler, measure)


def tune_fusion(
    args: argparse.Namespace, cfg: Config, study: SharedStudy, sampler: Mapping[str, Any]
) -> list[Any]:
    """Run the network once and fuse for each trial."""
    from mmpanoptic.registry import RUNNERS

    cli.complete_model(args)
    cfg.load_from, cfg.resume, cfg.stored_sizes = args.checkpoint, False, True
    cfg.test_cfg = {"type": "FusionTuningLoop"}
    trials: list[Any] = []

    with cli.run_console(args):
        runner: Any = RUNNERS.build(cfg)
        runner._test_loop = runner.build_test_loop(runner._test_loop)
        runner._test_loop.tune = lambda fuse: trials.extend(sample(args, study, sampler, fuse))
        runner.test()
    return trials


def report(
    args: argparse.Namespace, study: SharedStudy, trials: list[Any], work: Path
) -> Iterator[str]:
    """Write what was found and print the best.

    Raises:
        Failure: If every trial failed.
    """
    from mmpanoptic.evaluation.tables import render_table
    from mmpanoptic.utils import write_json

    good = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if not good:
        last = trials[-1].user_attrs.get("error", "").strip().splitlines()
        raise cli.Failure(f"every trial failed; the last one: {last[-1] if last else 'no reason'}")
    good.sort(key=lambda trial: trial.values[0], reverse=not args.minimize)
    rows = [
        {"number": t.number, "params": t.params, "value": t.values[0], **t.user_attrs} for t in good
    ]
    failed = len(trials) - len(good)
    content = {"study": study.study.study_name, "metric": args.metric, "failed": failed}
    write_json(work / "tuning.json", {**content, "trials": rows}, indent=1)
    names = list(good[0].params)
    table = [[_short(t.values[0]), *(_short(t.params[n]) for n in names)] for t in good[:5]]
    yield render_table("best trials", [args.metric, *names], table)
    yield f"{len(good)} trials, {failed} failed: {work / 'tuning.json'}"
    best = " ".join(f"{name}={value}" for name, value in good[0].params.items())
    yield f"--cfg-options {best}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


main = cli.Command(build_parser, run)
