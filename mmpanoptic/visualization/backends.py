"""Where mmengine's visualizer sends scalars and pictures: Weights & Biases, MLflow.

TensorBoard's backend is mmengine's, which fits.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.config import Config
from mmengine.visualization.vis_backend import BaseVisBackend, force_init_env

from mmpanoptic.registry import VISBACKENDS
from mmpanoptic.utils import read_json, write_json


class _RunBackend(BaseVisBackend):
    """A run of a program that keeps runs; it begins with a training, not with a test.

    Args:
        save_dir (str): Folder of the visualizer.

    Raises:
        ImportError: If the package is absent.
    """

    PACKAGE = ""
    """What is imported."""
    PIP = ""
    """What is installed."""
    KEPT = "logged_runs.json"
    """File of the work folder with the runs that a resume goes on with, by backend."""
    _config: Config | None = None
    goes_on = False
    """Whether a training goes on, with the run that the work folder names; the runner says so."""
    ending = "finished"
    """How training ended: "finished", "failed" or "stopped"; the runner says so."""
    _closed = False

    def __init__(self, save_dir: str) -> None:
        if importlib.util.find_spec(self.PACKAGE) is None:
            raise ImportError(
                f"{type(self).__name__} needs {self.PACKAGE}, which is not installed: "
                f"pip install {self.PIP}"
            )
        super().__init__(save_dir)

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Keep the config for the beginning of the run.

        Args:
            config (Config): Without placeholders.
            **kwargs: Not used.
        """
        self._config = config

    @property
    @force_init_env
    def experiment(self) -> Any:
        """Begin the run, if it has not, and return the package's object."""
        return self._run

    def _finish(self) -> None:
        raise NotImplementedError

    @property
    def _name(self) -> str:
        """What a run is called: its work folder's name."""
        folder = self._config.get("work_dir") if self._config else None
        return Path(folder or self._save_dir).resolve().name

    def _kept_file(self) -> Path | None:
        folder = self._config.get("work_dir") if self._config else None
        return Path(folder, self.KEPT) if folder else None

    def _kept_run(self) -> dict[str, str]:
        """Read which run the training began that goes on; nothing if it begins now."""
        path = self._kept_file()
        if not self.goes_on or path is None or not path.exists():
            return {}
        return dict(read_json(path).get(type(self).__name__, {}))

    def _keep_run(self, **facts: str) -> None:
        """Write which run this training is, for those that go on with it."""
        path = self._kept_file()
        if path is not None:
            known = read_json(path) if path.exists() else {}
            write_json(path, {**known, type(self).__name__: facts}, indent=1)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Send a number.

        Args:
            name (str): Its name.
            value (float): The number.
            step (int): Iteration.
            **kwargs: Not used.
        """
        self.add_scalars({name: value}, step)

    def close(self) -> None:
        """End the run, if it has begun and is not over, and say how it ended."""
        if self._env_initialized and not self._closed:
            self._closed = True
            self._finish()

    def _variables(self) -> dict[str, Any]:
        """Take the numbers and texts that stand at the top of the config."""
        items = (self._config or {}).items()
        return {name: value for name, value in items if isinstance(value, int | float | str)}


@VISBACKENDS.register_module()
class WandbBackend(_RunBackend):
    """Weights & Biases.

    Differences from the original (``mmengine.visualization.WandbVisBackend``): everything stands at
    its iteration, not at a count of messages; the Python files below the working folder are not
    uploaded; the run has the name of the work folder; nothing is printed but errors. ``wandb``'s
    variables hold, ``WANDB_MODE=offline`` among them.

    Args:
        save_dir (str): Folder of the visualizer, which gets the files of the run.
        init_kwargs (dict | None): Arguments of ``wandb.init``.

    Raises:
        ImportError: If ``wandb`` is absent.
    """

    PACKAGE = PIP = "wandb"

    def __init__(self, save_dir: str, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self._init_kwargs = dict(init_kwargs or {})

    def _init_env(self) -> None:
        import wandb

        os.makedirs(self._save_dir, exist_ok=True)
        unasked = {"WANDB_PROJECT": ("project", "mmpanoptic"), "WANDB_NAME": ("name", self._name)}
        defaults = {key: value for env, (key, value) in unasked.items() if env not in os.environ}
        settings = wandb.Settings(silent=True)
        kept = self._kept_run()
        same = {"id": kept["run"], "resume": "allow"} if kept else {}
        given = {"dir": self._save_dir, "settings": settings, **same, **self._init_kwargs}
        given = {**defaults, **given}
        self._run = wandb.init(config=self._config and self._config.to_dict(), **given)
        self._keep_run(run=self._run.id)
        self._run.define_metric("*", step_metric="iteration")
        self._image = wandb.Image

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Send a picture.

        Args:
            name (str): Its name.
            image (np.ndarray): uint8 RGB ``(H, W, 3)``.
            step (int): Iteration.
            **kwargs: Not used.
        """
        self._run.log({name: self._image(image), "iteration": step})

    @force_init_env
    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: Any = None, **kwargs: Any
    ) -> None:
        """Send numbers.

        Args:
            scalar_dict (dict[str, float]): By name.
            step (int): Iteration.
            file_path: Not used.
            **kwargs: Not used.
        """
        self._run.log({**scalar_dict, "iteration": step})

    def _finish(self) -> None:
        self._run.finish(exit_code=int(self.ending != "finished"))


@VISBACKENDS.register_module()
class MLflowBackend(_RunBackend):
    """MLflow.

    Differences from the original (``mmengine.visualization.MLflowVisBackend``): without a server,
    files in the run's folder serve (MLflow 3 refuses them unless told, mmengine's then fails); the
    parameters are the variables of the config, since a whole one is more than MLflow takes; the
    pictures have a format and their iteration; the files of the work folder are not uploaded, the
    config is.

    Args:
        save_dir (str): Folder of the visualizer, which gets the files of the run.
        tracking_uri (str | None): Server or database; ``MLFLOW_TRACKING_URI`` by default, else
            ``save_dir``.
        exp_name (str): Name of the experiment; ``MLFLOW_EXPERIMENT_NAME`` comes first.

    Raises:
        ImportError: If ``mlflow`` is absent.
    """

    PACKAGE, PIP = "mlflow", "mlflow-skinny"
    _UNKNOWN = re.compile(r"[^\w\-. /]")
    _STATUS: ClassVar = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

    def __init__(
        self,
        save_dir: str,
        tracking_uri: str | None = None,
        exp_name: str = "mmpanoptic",
    ) -> None:
        super().__init__(save_dir)
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._exp_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", exp_name)

    def _init_env(self) -> None:
        kept = self._kept_run()
        store = self._tracking_uri
        if store is None:  # files, of a training that goes on those that it began with
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            folder = Path(self._save_dir).resolve()
            if kept.get("folder"):
                folder = (self._work_dir / kept["folder"]).resolve()
            os.makedirs(folder, exist_ok=True)
            store = folder.as_uri()
            facts = {"folder": os.path.relpath(folder, self._work_dir)}
        else:
            facts = {"store": store}
        from mlflow import MlflowClient

        self._client = client = MlflowClient(store)
        same = kept if facts.items() <= kept.items() else {}
        self._run = self._find_run(same) or self._create_run()
        self._keep_run(run=self._id, **facts)
        if self._config is not None:
            client.log_text(self._id, self._config.pretty_text, "config.py")

    @property
    def _work_dir(self) -> Path:
        """Where the places of files start that the work folder keeps."""
        folder = self._config.get("work_dir") if self._config else None
        return Path(folder or ".").resolve()

    def _find_run(self, kept: Mapping[str, str]) -> Any:
        """Take a run up again; None if there is none, or somebody has deleted it."""
        from mlflow.exceptions import MlflowException

        if not kept:
            return None
        try:
            found = self._client.get_run(kept["run"])
            if found.info.lifecycle_stage == "deleted":
                return None
            self._client.update_run(kept["run"], status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return found

    def _create_run(self) -> Any:
        client = self._client
        found = client.get_experiment_by_name(self._exp_name)
        number = found.experiment_id if found else client.create_experiment(self._exp_name)
        run = client.create_run(number, run_name=self._name)
        for name, value in self._variables().items():
            client.log_param(run.info.run_id, name, value)
        return run

    @property
    def _id(self) -> str:
        identity: str = self._run.info.run_id
        return identity

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Send a picture.

        Args:
            name (str): Its name.
            image (np.ndarray): uint8 RGB ``(H, W, 3)``.
            step (int): Iteration.
            **kwargs: Not used.
        """
        self._client.log_image(self._id, image, f"{name}/{step:07}.png")

    @force_init_env
    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: Any = None, **kwargs: Any
    ) -> None:
        """Send numbers.

        Args:
            scalar_dict (dict[str, float]): By name.
            step (int): Iteration.
            file_path: Not used.
            **kwargs: Not used.
        """
        for name, value in scalar_dict.items():
            self._client.log_metric(self._id, self._UNKNOWN.sub("_", name), float(value), step=step)

    def _finish(self) -> None:
        self._client.set_terminated(self._id, self._STATUS[self.ending])
