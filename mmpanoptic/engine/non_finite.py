"""Stop a training before a loss or gradient that is not finite reaches the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, cast

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmpanoptic.registry import HOOKS

from .checkpoint_state import bare_model
from .fully_sharded import local_part

if TYPE_CHECKING:
    from .runner import PanopticRunner

_ADVICE = (
    "Look at their annotations (tools/analysis_tools/browse_dataset.py), lower the learning rate, "
    "lengthen the warm-up, or clip gradients; the weights are those of the step before, and the "
    "last checkpoint is good: go on with --resume"
)


class NonFiniteLossError(RuntimeError):
    """A loss, gradient or weight is infinite or not a number."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop training when a loss or gradient is not finite, in front of the optimizer's step.

    The message names the images since the last step, the losses, and the layer: the first one
    whose output is not finite, or the one nearest to the loss whose gradient is not. All processes
    stop together.

    Gradients that a scaler for float16 has enlarged may overflow; it leaves such a step out and
    lowers the scale. They count once there is nothing left to lower.
    """

    priority = "HIGH"

    def __init__(self) -> None:
        self._losses: dict[str, Tensor] = {}
        self._batch: Any = None
        self._images: list[Any] = []  # since the last step
        self._checked = True  # the losses of this iteration

    def before_train(self, runner: PanopticRunner) -> None:
        """Get between the backward pass and the step.

        Args:
            runner (PanopticRunner): The runner.
        """
        self._handle = bare_model(runner.model).register_forward_hook(self._note_losses)
        self._steps = [(one, one.step) for one in _optim_wrappers(runner.optim_wrapper)]
        for wrapper, step in self._steps:
            # Clipping, which belongs to the step, would spread a NaN over all gradients. Schedulers
            # look for their mark on the method.
            checked = partial(self._checked_step, runner, wrapper, step)
            wrapper.step = update_wrapper(checked, step)

    def after_train(self, runner: PanopticRunner) -> None:
        """Step aside.

        Args:
            runner (PanopticRunner): The runner.
        """
        self._handle.remove()
        for wrapper, step in self._steps:
            wrapper.step = step

    def before_train_iter(
        self, runner: PanopticRunner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Note the images.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: The batch as the data loader returned it.
        """
        self._losses, self._batch, self._checked = {}, data_batch, False
        self._images += image_ids(data_batch)

    def after_train_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Check where no step did, as while gradients are accumulated.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Number of the batch.
            data_batch: Unused.
            outputs (Mapping | None): The losses, for models that are trained in ways of their own.

        Raises:
            NonFiniteLossError: If a loss or gradient is infinite or not a number.
        """
        if not self._checked:
            self._note_losses(runner.model, None, self._losses or outputs)
            wrappers = (wrapper for wrapper, _ in self._steps)
            self._check(runner, [grad for one in wrappers for grad in _gradients(one)])
        self._batch = None

    def _note_losses(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Mapping):
            losses = {name: value for name, value in output.items() if "loss" in name}
            self._losses = {name: _scalar(value) for name, value in losses.items()}

    def _checked_step(
        self, runner: PanopticRunner, wrapper: OptimWrapper, step: Any, **options: Any
    ) -> None:
        self._check(runner, _gradients(wrapper))
        step(**options)
        self._images = []

    def _check(self, runner: PanopticRunner, gradients: list[Tensor]) -> None:
        self._checked = True
        if self._are_finite(gradients):
            return
        found = all_gather_object(self._describe(bare_model(runner.model), bool(gradients)))
        raise NonFiniteLossError(
            f"iteration {runner.iter + 1} stopped: {'; '.join(text for text in found if text)}. "
            f"{_ADVICE}"
        )

    def _are_finite(self, gradients: list[Tensor]) -> bool:
        """Test everything with one look at the device, and agree with the other processes."""
        values = list(self._losses.values())
        gradients = [one for one in gradients if one.numel()]  # an empty one has no largest value
        if gradients:
            values.append(torch.nn.utils.get_total_norm(gradients, float("inf")))
        if not values:
            return True
        device = values[-1].device
        wrong = ~torch.stack([value.to(device, torch.float32) for value in values]).isfinite()
        flag = wrong.any().int()
        if get_world_size() > 1:
            all_reduce(flag, op="max")
        return not flag.item()

    def _describe(self, model: nn.Module, has_gradients: bool) -> str:
        """Say what this process saw; nothing if the trouble is another one's."""
        values = {name: float(value) for name, value in self._losses.items()}
        images = ", ".join(map(str, self._images)) or "unknown"
        place = f" in process {get_rank()}" if get_world_size() > 1 else ""
        if not all(torch.tensor(value).isfinite() for value in values.values()):
            losses = ", ".join(f"{name} {value:g}" for name, value in values.items())
            # Models exchange numbers in a pass; here not all processes would take part.
            layer = "" if get_world_size() > 1 else _first_bad_output(model, self._batch)
            text = f"the loss is not finite ({losses}){layer}"
        elif has_gradients and (wrong := _bad_gradients(model)):
            text = f"the gradient of {_enumerate(wrong)} is not finite, though the loss is"
        else:
            return ""
        return f"{text}; images of the batch{place}: {images}"


def image_ids(data_batch: Any) -> list[Any]:
    """List the image ids of a batch.

    Args:
        data_batch: Batch with ``data_samples``; a sample without ``img_id`` gives its path.

    Returns:
        list: Ids in the order of the batch; empty if the batch has no samples.
    """
    samples = data_batch.get("data_samples") if isinstance(data_batch, Mapping) else None
    if not isinstance(samples, Sequence):
        return []
    found = []
    for sample in samples:
        metainfo = getattr(sample, "metainfo", {})
        found.append(metainfo.get("img_id", metainfo.get("img_path", "?")))
    return found


def refuse_non_finite(weights: Mapping[str, Any], iteration: int) -> None:
    """Keep weights that are not finite out of a checkpoint.

    Args:
        weights (Mapping): A state dict.
        iteration (int): Named in the message.

    Raises:
        NonFiniteLossError: If a tensor holds NaN or infinity. Minus infinity passes, which
            constant masks of attention hold.
    """
    tensors = {k: v for k, v in weights.items() if torch.is_tensor(v) and v.is_floating_point()}
    parts = {name: local_part(value) for name, value in tensors.items()}
    wrong = [name for name, value in parts.items() if not (value < float("inf")).all()]
    if any(parts[name] is not tensors[name] for name in parts):  # each process has its own
        found = set().union(*all_gather_object(wrong))
        wrong = [name for name in parts if name in found]
    if wrong:
        raise NonFiniteLossError(
            f"after iteration {iteration} {_enumerate(wrong)} of the model is not finite; no "
            "checkpoint was written, and the last one is good. Lower the learning rate or look at "
            "the inputs of this layer, then go on with --resume"
        )


def _optim_wrappers(wrapper: Any) -> list[OptimWrapper]:
    if isinstance(wrapper, OptimWrapperDict):
        return list(wrapper.values())
    return [wrapper]


def _scalar(value: Tensor | Sequence[Tensor]) -> Tensor:
    """Reduce a loss as mmengine does: tensors by their mean, lists of them by the sum."""
    parts = [value] if torch.is_tensor(value) else value
    return sum((part.detach().float().mean() for part in parts), torch.zeros(()))


def _gradients(wrapper: OptimWrapper) -> list[Tensor]:
    """List the gradients; none while a scaler can still lower the scale that made them large."""
    scaler = getattr(wrapper, "loss_scaler", None)
    if scaler is not None and scaler.is_enabled() and scaler.get_scale() > 1:
        return []
    weights = [weight for group in wrapper.optimizer.param_groups for weight in group["params"]]
    return [local_part(weight.grad) for weight in weights if weight.grad is not None]


def _bad_gradients(model: nn.Module) -> list[str]:
    """Name the weights without a finite gradient, those nearest to the loss first."""
    wrong = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is not None and not local_part(weight.grad).isfinite().all()
    ]
    return wrong[::-1]


def _enumerate(names: list[str]) -> str:
    more = f" (and of {len(names) - 1} more weights)" if len(names) > 1 else ""
    return names[0] + more


def _first_bad_output(model: nn.Module, batch: Any) -> str:
    """Run a batch once more and name the first layer that makes something not finite of it."""
    found: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if not found and not _all_finite(output):
            told = "the input of" if not _all_finite(inputs) else "the output of"
            found.append(f"; {told} {names[module] or 'the model'} is the first such value")

    leaves = [module for module in model.modules() if not any(module.children())]
    handles = [module.register_forward_hook(look) for module in leaves]
    try:
        with torch.no_grad():
            data = cast("Any", model).data_preprocessor(batch, True)
            inputs = data.get("inputs") if isinstance(data, Mapping) else None
            if not _all_finite(inputs):
                return "; an image itself is not finite"
            model(**data, mode="loss")
    except Exception as error:  # the message about the loss must not be lost
        return f" (a second pass to find the layer failed: {type(error).__name__}: {error})"
    finally:
        for handle in handles:
            handle.remove()
    return "".join(found)


def _all_finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if torch.is_tensor(value):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)
