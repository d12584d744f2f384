"""The runner: mmengine's, with checkpoints that can be trusted and resumes that are exact."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_rank, is_distributed, is_main_process
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmpanoptic.checkpoints.loading import save_checkpoint
from mmpanoptic.checkpoints.published import install_safe_loading
from mmpanoptic.registry import RUNNERS
from mmpanoptic.version import __version__

from .auto_scale import count_processes, scale_to_batch
from .checkpoint_state import bare_model, message_hub_to_plain, scheduler_states, to_plain
from .config import resolve_config
from .distributed import init_cpu_process_group
from .random_state import capture_random_state, isolated_random_state
from .resume import ResumeMixin
from .run_seed import give_seed
from .workers import DetachedWorker

install_safe_loading()

_EXACT_LOOPS = {"EpochBasedTrainLoop": "EpochTrainLoop", "IterBasedTrainLoop": "IterTrainLoop"}


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

    Set ``trust_checkpoint=True`` in the config to load pickles of mmengine's runner, see
    :func:`mmpanoptic.checkpoints.loading.load_checkpoint`.
    """

    _outer_random_state: dict[str, Any] | None = None
    """Training's random state while validation runs."""
    _batch_note: str | None = None
    """What :func:`.auto_scale.scale_to_batch` said."""

    @classmethod
    def from_cfg(cls, cfg: Config) -> PanopticRunner:
        """Build a runner from a config, whose placeholders are filled in first.

        Args:
            cfg (Config): The config; it is not changed.

        Returns:
            PanopticRunner: The runner.
        """
        cfg = copy.deepcopy(cfg)
        note = scale_to_batch(cfg, count_processes(cfg.get("launcher", "none")))
        runner = super().from_cfg(resolve_config(cfg))
        runner._batch_note = note
        return runner

    def train(self) -> nn.Module:
        """Train; first say what the batch at hand means for the schedule."""
        if self._batch_note:
            scaled = self._batch_note.startswith("auto_scale_lr")
            self.logger.log(logging.INFO if scaled else logging.WARNING, self._batch_note)
        return super().train()

    # ---- environment -------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set up processes and the process group; gloo where there is no GPU."""
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            init_cpu_process_group(self.launcher, **env_cfg.get("dist_cfg", {}))
        super().setup_env(env_cfg)

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
        if not self.distributed or get_device() != "cpu" or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        options = {
            "type": "MMDistributedDataParallel",
            "broadcast_buffers": False,
            "find_unused_parameters": self.cfg.get("find_unused_parameters", False),
            **(model_wrapper_cfg or {}),
        }
        return MODEL_WRAPPERS.build(options, default_args={"module": revert_sync_batchnorm(model)})

    # ---- data and loops ----------------------------------------------------------------------

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Build a data loader whose sampler and datasets know the run's seed.

        Without workers there are none that could persist: ``num_workers=0`` is enough.

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
        if not dataloader.get("num_workers"):
            dataloader["persistent_workers"] = False
            dataloader.pop("prefetch_factor", None)
        if seed is not None:
            seed = seed - get_rank() if diff_rank_seed else seed
            give_seed(dataloader["dataset"], seed)
        loader = Runner.build_dataloader(dataloader, seed=seed)
        loader.worker_init_fn = DetachedWorker(loader.worker_init_fn)
        return loader

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the training loop, in place of mmengine's one that can be resumed exactly."""
        if isinstance(loop, dict):
            loop = copy.deepcopy(loop)
            by_epoch = loop.pop("by_epoch", False)
            kind = loop.get("type", "EpochTrainLoop" if by_epoch else "IterTrainLoop")
            loop["type"] = _EXACT_LOOPS.get(kind, kind)
        return super().build_train_loop(loop)

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
            ValueError: If the folder is not local: only local writes are atomic.
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
        random_states = all_gather_object(self._outer_random_state or capture_random_state())
        if not is_main_process():
            return
        checkpoint = {
            "meta": meta | self._describe_run(),
            "state_dict": bare_model(self.model).state_dict(),
            "message_hub": message_hub_to_plain(self.message_hub, self.logger.warning),
            "random_states": random_states,
        }
        if hasattr(self.train_loop, "data_position"):
            checkpoint["data_position"] = self.train_loop.data_position(meta["epoch"], meta["iter"])
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = scheduler_states(self.param_schedulers)
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)  # EMA, for instance
        save_checkpoint(to_plain(checkpoint), os.path.join(out_dir, filename))

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
            # Whether schedulers and hooks have got the metrics that were due at this iteration.
            "validated": self._outer_random_state is not None,
        }
