"""The runner: mmengine's, with checkpoints that can be trusted and resumes that are exact."""

from __future__ import annotations

import copy
import inspect
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_rank,
    is_distributed,
    is_main_process,
    master_only,
)
from mmengine.hooks import EarlyStoppingHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from mmpanoptic.checkpoints.loading import save_checkpoint
from mmpanoptic.checkpoints.published import install_safe_loading
from mmpanoptic.checkpoints.run_folder import CONFIG_POINTER
from mmpanoptic.checkpoints.shares import SHARES, remove_checkpoint
from mmpanoptic.ops import name_operators_in_use
from mmpanoptic.registry import RUNNERS, placeholders
from mmpanoptic.version import __version__

from ..structures import LabelTable
from ..utils.files import FULL, WriteError, atomic_write, explained_writes
from ..utils.locks import FolderInUseError, exclusive_folder
from ..utils.threads import describe
from .argument_names import check_arguments
from .auto_batch import choose_batch
from .auto_scale import count_processes, scale_to_batch
from .batches import refuse_endless
from .checkpoint_state import (
    bare_model,
    message_hub_to_plain,
    open_window,
    scheduler_states,
    to_plain,
)
from .config import (
    explained_build_errors,
    fill_sizes,
    resolve_config,
    share_label_table,
    stored_label_table,
    stored_sizes,
)
from .config_keys import check_keys, read_names
from .console import ALWAYS, progress_hooks, quieten
from .distributed import end_with_launcher, init_cpu_process_group, start_watch
from .fully_sharded import (
    InStepHook,
    clip_norm,
    gather,
    is_fully_sharded,
    is_spread,
    refuse_settings,
    write_share,
)
from .non_finite import refuse_non_finite
from .preflight import PreflightHook
from .random_state import capture_random_state, isolated_random_state
from .rank_preflight import compare_ranks
from .rank_watch import DEFAULT_TIMEOUT, SLACK, RankWatch, RankWatchHook
from .resume import ResumeMixin
from .run_seed import give_positions, give_seed
from .schedules import without_empty_warmups
from .stop_hooks import StopSignalHook
from .type_names import check_types
from .workers import GuardedWorker, clear_worker_errors, count_workers

install_safe_loading()

_CLOCK = "%Y%m%d_%H%M%S"
_starts: set[str] = set()
"""When the runs of this process began."""
_EXACT_LOOPS = {"EpochBasedTrainLoop": "EpochTrainLoop", "IterBasedTrainLoop": "IterTrainLoop"}


def _own_stop_hook(hook: Any) -> Any:
    """Let ours take the place of mmengine's hook for early stopping."""
    names = ("EarlyStoppingHook", EarlyStoppingHook)
    if not isinstance(hook, dict) or hook.get("type") not in names:
        return hook
    defaults = {"min_delta": inspect.signature(EarlyStoppingHook).parameters["min_delta"].default}
    given = {name: value for name, value in hook.items() if name != "strict"}
    return {**defaults, **given, "type": "PatienceStopHook"}


@RUNNERS.register_module()
class PanopticRunner(ResumeMixin, Runner):
    """Runner whose checkpoints are safe to load and whose interrupted runs go on exactly.

    Differences from the original (``mmengine.runner.Runner``):

    - The config's placeholders are filled in (:func:`resolve_config`).
    - Checkpoints load with ``weights_only=True``, are written atomically, and also hold the
      random states of all processes and the place in the data.
    - Automatic resume passes over damaged checkpoints and says so. A resume from a file without
      optimizer state, or whose weights do not fit the model, is an error.
    - :class:`EpochTrainLoop`, :class:`IterTrainLoop` and :class:`AtomicCheckpointHook` take the
      place of mmengine's ``EpochBasedTrainLoop``, ``IterBasedTrainLoop`` and ``CheckpointHook``.
    - Datasets that take a ``seed`` get the run's.
    - Distributed runs work on machines without a GPU (gloo, BN in place of SyncBN).

    Set ``stored_sizes=True`` to take the ``$size_...`` that a checkpoint keeps, as tests do, and
    not those of the training data. Set ``trust_checkpoint=True`` in the config to load pickles of
    mmengine's runner, see :func:`mmpanoptic.checkpoints.loading.load_checkpoint`.
    """

    _outer_random_state: dict[str, Any] | None = None
    """Training's random state while validation runs."""
    _batch_notes: Sequence[str] = ()
    """What :mod:`.auto_batch` and :func:`.auto_scale.scale_to_batch` said."""
    rank_watch: RankWatch | None = None
    """Finds lost processes, where there are several."""
    _source: Config | None = None
    """The config with its placeholders."""
    size_settings: Mapping[str, Any] | None = None
    """What the ``$size_...`` of the config stand for."""
    label_table: LabelTable | None = None
    """Classes of the model and of all datasets, if the config has panoptic datasets."""

    @classmethod
    def from_cfg(cls, cfg: Config) -> PanopticRunner:
        """Build a runner from a config, whose placeholders are filled in first.

        All datasets get one label table, see :func:`.config.share_label_table`. The work folder
        gets the config as it was given, with its placeholders: there, too, overrides of variables
        reach every place.

        Args:
            cfg (Config): The config; it is not changed.

        Returns:
            PanopticRunner: The runner.

        Raises:
            ConfigError: If the config has settings that nothing reads, or wrong ones.
        """
        source = cfg = copy.deepcopy(cfg if isinstance(cfg, Config) else Config(cfg))
        if next(placeholders(source._cfg_dict), None) is not None:  # else somebody filled them in
            check_keys(source)
        check_types(source._cfg_dict)
        notes: list[str | None] = []
        if source.pop("auto_batch", False):
            notes.append(choose_batch(source, cls.build_dataloader).note)
        cfg = copy.deepcopy(source)
        notes.append(scale_to_batch(cfg, count_processes(cfg.get("launcher", "none"))))
        loaded = cls._load_ahead(cfg)
        with explained_build_errors():
            table = share_label_table(cfg, loaded and stored_label_table(loaded[1]))
            meta = None if table is None else table.to_metainfo()
            keep = bool(cfg.get("resume") or cfg.get("stored_sizes"))
            sizes = fill_sizes(cfg, loaded and stored_sizes(loaded[1]), prefer_stored=keep)
            resolved = resolve_config(cfg, meta)
            check_arguments(resolved)
            runner = super().from_cfg(resolved)
        if sizes is not None:
            runner.size_settings = sizes.settings
            level = logging.INFO if sizes.known else logging.WARNING
            runner.logger.log(level, str(sizes), extra=ALWAYS)
        runner._batch_notes = [note for note in notes if note]
        runner._loaded, runner.label_table = loaded, table
        runner._source = source
        return runner

    def train(self) -> nn.Module:
        """Train; first say what the batch at hand means for the schedule."""
        for note in self._batch_notes:
            level = logging.INFO if note.startswith("auto_") else logging.WARNING
            self.logger.log(level, note, extra=ALWAYS)
        loader = self._train_dataloader
        asked = loader.get("num_workers", 0) if isinstance(loader, dict) else loader.num_workers
        workers = f"loader workers: {count_workers(asked)} of the {asked} in the config"
        self.logger.info(f"{describe(torch.get_num_threads())}; {workers}")
        with (
            self._watched(),
            self._own_work_dir(),
            self._explained_full_disk(),
            explained_build_errors(),
            clear_worker_errors(),
        ):
            self.keep_config(replace=True)
            try:
                with self._logged_run():
                    return super().train()
            finally:
                for hook in self.hooks:
                    if isinstance(hook, StopSignalHook):
                        hook.release()

    def _watched(self) -> AbstractContextManager[None]:
        """Name the process that is lost, where there are several."""
        return nullcontext() if self.rank_watch is None else self.rank_watch.watch()

    @contextmanager
    def _own_work_dir(self) -> Iterator[None]:
        """Keep other trainings out of the work folder; all processes fail if the first one does."""
        with ExitStack() as stack:
            error: list[Exception | None] = [None]
            if is_main_process():
                try:
                    stack.enter_context(exclusive_folder(self.work_dir, ".training.lock"))
                except (FolderInUseError, OSError) as caught:
                    error = [caught]
            broadcast_object_list(error)
            if error[0] is not None:
                raise error[0]
            yield

    @contextmanager
    def _explained_full_disk(self) -> Iterator[None]:
        """Name the work folder where the system names no file, as when a log is written."""
        try:
            yield
        except OSError as error:
            if error.filename is None and error.errno in FULL and not isinstance(error, WriteError):
                with explained_writes(self.work_dir):
                    raise
            raise

    def build_val_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the loop of validation, whose data must have an end."""
        built = super().build_val_loop(loop)
        refuse_endless(built.dataloader)
        return built

    def build_test_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the loop of testing, whose data must have an end."""
        built = super().build_test_loop(loop)
        refuse_endless(built.dataloader)
        return built

    def dump_config(self) -> None:
        """Do nothing: mmengine calls this in the constructor, where nobody knows what will run."""

    @master_only
    def keep_config(self, replace: bool) -> None:
        """Write the config as it was given to the work folder.

        Args:
            replace (bool): Whether a file of this name may be replaced, and the config is the
                folder's from now on; a test must not touch those of a training.
        """
        source = self._source or self.cfg
        name = os.path.basename(source.filename) if source.filename else f"{self.timestamp}.py"
        path = os.path.join(self.work_dir, name)
        if os.path.exists(path) and not replace:
            return
        read = read_names(source)
        kept = Config({name: value for name, value in source.items() if name in read})
        with atomic_write(path) as temporary:
            temporary.write_text(kept.pretty_text, encoding="utf-8")
        if replace:
            with atomic_write(os.path.join(self.work_dir, CONFIG_POINTER)) as temporary:
                temporary.write_text(name, encoding="utf-8")

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; before a run of any kind log which operators it will use."""
        if fn_name == "before_run":
            self.logger.info(name_operators_in_use(next(self.model.parameters()).device))
        super().call_hook(fn_name, **kwargs)

    # ---- console and environment ----------------------------------------------------------------

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, whose console is quiet inside :func:`.console.quiet_console`."""
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Build the visualizer, one of its own for each run of a process.

        Differences from the original: a config's visualizer is one instance by its name, so that a
        second run of the process would write into the first one's folder.
        """
        if isinstance(visualizer, dict):
            name = f"{visualizer.get('name', 'visualizer')} {self.experiment_name}"
            visualizer = {**visualizer, "name": name}
        return super().build_visualizer(visualizer)

    def load_or_resume(self) -> None:
        """Load or resume; then begin the runs of the visualizer's backends, or go on with them."""
        super().load_or_resume()
        if isinstance(self._train_loop, BaseLoop) and is_main_process():
            for backend in self.visualizer._vis_backends.values():
                if hasattr(backend, "goes_on"):
                    backend.goes_on = self.iter > 0
                _ = backend.experiment

    @contextmanager
    def _logged_run(self) -> Iterator[None]:
        """End the runs of the visualizer's backends however training ends, and tell them how."""
        try:
            yield
        except BaseException as error:
            for backend in self.visualizer._vis_backends.values() if is_main_process() else ():
                if hasattr(backend, "ending"):
                    backend.ending = "failed" if isinstance(error, Exception) else "stopped"
                try:
                    backend.close()
                except Exception as trouble:  # what ended the training is what has to be told
                    self.logger.warning(f"{type(backend).__name__} could not be closed: {trouble}")
            raise

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set up processes and the process group; gloo where there is no GPU."""
        settings = env_cfg.get("dist_cfg", {})
        timeout = settings.get("timeout", DEFAULT_TIMEOUT)
        settings = {**settings, "timeout": timeout + SLACK}
        end_with_launcher(timeout)
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            init_cpu_process_group(self.launcher, **settings)
        super().setup_env({**env_cfg, "dist_cfg": settings})
        # Loggers and message hubs are one by their names, which end in the time of the start.
        start: str = self.timestamp
        while start in _starts:
            start = time.strftime(
                _CLOCK, time.localtime(time.mktime(time.strptime(start, _CLOCK)) + 1)
            )
        _starts.add(start)
        self._timestamp = start
        if self.world_size > 1:
            compare_ranks(self.cfg)
            self.rank_watch = start_watch(timeout)

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed all generators.

        Args:
            seed (int | None): Seed; None draws one, which the checkpoints keep.
            diff_rank_seed (bool): Add the rank to the seed, so that dropout differs among
                processes.
            deterministic (bool): Use deterministic algorithms; operations that have none give a
                warning (mmengine: an error, which bilinear upsampling on CUDA would raise).
        """
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        super().set_randomness(seed, diff_rank_seed, deterministic)
        if deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wrap the model for distributed training; on CPUs without devices and SyncBN."""
        if self.distributed and is_fully_sharded(model_wrapper_cfg):
            return self._spread_model(model_wrapper_cfg, model)
        if is_fully_sharded(model_wrapper_cfg):
            self.logger.warning("one process: FullyShardedModel leaves the model whole")
        if not self.distributed or get_device() != "cpu" or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        options = {
            "type": "MMDistributedDataParallel",
            "broadcast_buffers": False,
            "find_unused_parameters": self.cfg.get("find_unused_parameters", False),
            **(model_wrapper_cfg or {}),
        }
        return MODEL_WRAPPERS.build(options, default_args={"module": revert_sync_batchnorm(model)})

    def _spread_model(self, settings: Any, model: nn.Module) -> nn.Module:
        """Initialise a model while it is whole, then spread it over the processes."""
        refuse_settings(self.cfg)
        if get_device() == "cpu":
            model = revert_sync_batchnorm(model)
        if self._train_dataloader is not None:
            self.model = model
            self._init_model_weights()
        spread = MODEL_WRAPPERS.build(settings, default_args={"module": model})
        units = len(spread.unit_names) + 1
        self.logger.info(f"weights are spread over {self.world_size} processes in {units} units")
        return spread

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer; norms of gradients that are spread take all processes."""
        built = super().build_optim_wrapper(optim_wrapper)
        if is_spread(self.model) and getattr(built, "clip_func", None) is clip_grad_norm_:
            built.clip_func = clip_norm
        return built

    # ---- data and loops ----------------------------------------------------------------------

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Build a data loader whose sampler and datasets know the run's seed.

        Without workers there are none that could persist: ``num_workers=0`` is enough. There are
        at most as many as processors.

        Args:
            dataloader (DataLoader | dict): A loader, which is returned, or its config.
            seed (int | None): Seed of this process.
            diff_rank_seed (bool): Whether ``seed`` includes the rank. Data need one seed for all
                processes, so it is taken off.

        Returns:
            DataLoader: The loader.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        dataloader = copy.deepcopy(dataloader)
        dataloader["num_workers"] = count_workers(dataloader.get("num_workers", 0))
        if not dataloader["num_workers"]:
            dataloader["persistent_workers"] = False
            dataloader.pop("prefetch_factor", None)
        if seed is not None:
            seed = seed - get_rank() if diff_rank_seed else seed
            give_seed(dataloader["dataset"], seed)
        loader = Runner.build_dataloader(dataloader, seed=seed)
        give_positions(loader.dataset)
        loader.worker_init_fn = GuardedWorker(loader.worker_init_fn)
        return loader

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the training loop, in place of mmengine's one that can be resumed exactly."""
        if isinstance(loop, dict):
            loop = copy.deepcopy(loop)
            by_epoch = loop.pop("by_epoch", False)
            kind = loop.get("type", "EpochTrainLoop" if by_epoch else "IterTrainLoop")
            loop["type"] = _EXACT_LOOPS.get(kind, kind)
        return super().build_train_loop(loop)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedulers; a warm-up over no iterations is left out."""
        return super().build_param_scheduler(without_empty_warmups(scheduler))

    def register_hooks(
        self, default_hooks: dict[str, Any] | None = None, custom_hooks: list[Any] | None = None
    ) -> None:
        """Register the hooks; a run that stops early keeps its best state, ranks are watched."""
        custom = [_own_stop_hook(hook) for hook in custom_hooks or []]
        stops = [h for h in custom if isinstance(h, dict) and h["type"] == "PatienceStopHook"]
        checkpoint = (default_hooks or {}).get("checkpoint", {"type": "AtomicCheckpointHook"})
        if stops and isinstance(checkpoint, dict) and not checkpoint.get("save_best"):
            best = {"save_best": stops[0]["monitor"], "rule": stops[0].get("rule")}
            default_hooks = {**(default_hooks or {}), "checkpoint": {**checkpoint, **best}}
        super().register_hooks(default_hooks, custom)
        if self.rank_watch is not None:
            self.register_hook(RankWatchHook(self.rank_watch))
        if is_spread(self.model):
            self.register_hook(InStepHook())
        self.register_hook(PreflightHook())
        for hook in progress_hooks():
            self.register_hook(hook)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register the default hooks; the one for checkpoints writes atomically."""
        hooks = {"checkpoint": {"type": "AtomicCheckpointHook", "interval": 1}, **(hooks or {})}
        checkpoint = hooks["checkpoint"]
        if isinstance(checkpoint, dict) and checkpoint.get("type") == "CheckpointHook":
            # Where the number of checkpoints is not said, mmengine's hook keeps all.
            keep_all = {"max_keep_ckpts": -1}
            hooks["checkpoint"] = keep_all | checkpoint | {"type": "AtomicCheckpointHook"}
        super().register_default_hooks(hooks)

    # ---- random states -----------------------------------------------------------------------

    @contextmanager
    def untraced_random_state(self) -> Iterator[None]:
        """Run validation without a trace in training's random numbers.

        A checkpoint that is written inside holds the state before.
        """
        with isolated_random_state() as self._outer_random_state:
            try:
                yield
            finally:
                self._outer_random_state = None

    # ---- writing -----------------------------------------------------------------------------

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict[str, Any] | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict[str, Any] | None = None,
        by_epoch: bool = True,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint; to be called by all processes, of which the first one writes.

        Args:
            out_dir (str): Local folder.
            filename (str): Name of the file.
            file_client_args (dict | None): Must be None, see Raises.
            save_optimizer (bool): Store the optimizer's state.
            save_param_scheduler (bool): Store the schedulers' states.
            meta (dict | None): Additions to ``meta``.
            by_epoch (bool): Whether the current epoch (else the current iteration) counts as
                finished, where ``meta`` does not say.
            backend_args (dict | None): Must be None, see Raises.

        Raises:
            NonFiniteLossError: If a weight is infinite or not a number.
            ValueError: If the folder is not local: only local writes are atomic.
            WriteError: If the disk is full, broken or read-only.
        """
        if file_client_args or backend_args or "://" in str(out_dir):
            raise ValueError(
                f"checkpoints are written to local folders only, got {out_dir!r}; write to a "
                "mounted folder, or copy them to the object store afterwards"
            )
        done = {"epoch": 1, "iter": 0} if by_epoch else {"epoch": 0, "iter": 1}
        meta = {"epoch": self.epoch + done["epoch"], "iter": self.iter + done["iter"]} | (
            meta or {}
        )
        model = bare_model(self.model)
        weights, spread = model.state_dict(), is_spread(model)
        refuse_non_finite(weights, meta["iter"])
        window = open_window(model, self.optim_wrapper) if save_optimizer else None
        random_states = all_gather_object(self._outer_random_state or capture_random_state())
        if not (spread or is_main_process()):
            return
        checkpoint = {
            "meta": meta | self._describe_run(),
            "state_dict": weights,
            "message_hub": message_hub_to_plain(self.message_hub, self.logger.warning),
            "random_states": random_states,
        }
        if hasattr(self.train_loop, "data_position"):
            checkpoint["data_position"] = self.train_loop.data_position(meta["epoch"], meta["iter"])
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if window is not None:
            checkpoint["gradients"] = window
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = scheduler_states(self.param_schedulers)
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)  # EMA, for instance
        path = Path(out_dir, filename)
        if getattr(self.model, "sharded_checkpoints", False):
            checkpoint = write_share(checkpoint, path)
        elif spread:
            checkpoint = gather(checkpoint, keep=is_main_process())
        if not is_main_process():
            return
        try:
            save_checkpoint(to_plain(checkpoint), path)
            if SHARES in checkpoint:
                remove_checkpoint(path, keep=checkpoint[SHARES]["id"])
        except WriteError as error:
            text = f"the checkpoint of iteration {meta['iter']} is not written: {error}"
            raise WriteError(error.errno, f"{text}; then go on with --resume") from error

    def _describe_run(self) -> dict[str, Any]:
        """Collect config, versions, seed and label table for ``meta``."""
        return {
            "cfg": self.cfg.pretty_text,
            "seed": self.seed,
            "experiment_name": self.experiment_name,
            "time": time.strftime("%Y%m%d_%H%M%S"),
            "mmpanoptic_version": __version__,
            "mmengine_version": mmengine.__version__,
            "torch_version": str(torch.__version__),
            "dataset_meta": to_plain(getattr(self.train_dataloader.dataset, "metainfo", {})),
            "size_settings": to_plain(self.size_settings),
            # Whether schedulers and hooks have got the metrics that were due at this iteration.
            "validated": self._outer_random_state is not None,
        }
