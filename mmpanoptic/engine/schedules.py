"""Learning rates that follow the config: warm-ups of no length, resumes with another schedule."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mmengine.optim import OptimWrapperDict

from .checkpoint_state import to_plain

if TYPE_CHECKING:
    from .runner import PanopticRunner

_WARMUPS = ("Linear", "Constant")
_PROGRESS = {"last_step", "_global_step", "_last_value", "verbose"}


def without_empty_warmups(schedulers: Any) -> Any:
    """Leave out warm-ups of no length, which mmengine would never take back.

    A linear warm-up reaches its end in its last step; with a single step it stays at its start
    factor for the whole run.

    Args:
        schedulers: Config of a scheduler, a list of them, or lists by name of the optimizer; built
            schedulers stay.

    Returns:
        Any: The same without those that end where they begin.
    """
    if isinstance(schedulers, list | tuple):
        return [part for part in schedulers if not _is_empty(part)]
    if not isinstance(schedulers, Mapping):
        return schedulers
    if "type" in schedulers:
        return [] if _is_empty(schedulers) else schedulers
    return {name: without_empty_warmups(part) for name, part in schedulers.items()}


def _is_empty(scheduler: Any) -> bool:
    if not isinstance(scheduler, Mapping) or "end" not in scheduler:
        return False
    kind = scheduler.get("type")
    if not str(getattr(kind, "__name__", kind)).rpartition(".")[2].startswith(_WARMUPS):
        return False
    length = scheduler["end"] - scheduler.get("begin", 0)
    return length <= (0 if scheduler.get("convert_to_iter_based") else 1)


@dataclass(frozen=True)
class _Schedule:
    """An optimizer's hyperparameters and schedulers before the first step, as the config says."""

    name: str | None
    optimizer: Any
    schedulers: Sequence[Any]
    groups: list[dict[str, Any]]
    states: list[dict[str, Any]]


def note_schedules(runner: PanopticRunner) -> list[_Schedule]:
    """Keep what the config says before a checkpoint is loaded.

    Args:
        runner (PanopticRunner): With optimizer and schedulers of the config.

    Returns:
        list: One entry per optimizer, for :func:`follow_config`.
    """
    noted = []
    for name, optimizer, schedulers in _optimizers(runner):
        groups = [_hyperparameters(group) for group in optimizer.param_groups]
        states = [copy.deepcopy(scheduler.state_dict()) for scheduler in schedulers]
        noted.append(_Schedule(name, optimizer, schedulers, groups, states))
    return noted


def follow_config(runner: PanopticRunner, noted: Sequence[_Schedule], stored: Any) -> list[str]:
    """After a resume let schedule and hyperparameters be those of the config.

    Where both are those of the checkpoint nothing is touched. Otherwise the schedulers go from the
    start of the run to where it stands, so that the next rate is the one that a run with this
    schedule would have there.

    Args:
        runner (PanopticRunner): With the states of the checkpoint.
        noted (Sequence): From :func:`note_schedules`.
        stored: The schedulers' states of the checkpoint: a list, or lists by name of the
            optimizer; None if it has none.

    Returns:
        list[str]: What is other than in the checkpoint.
    """
    notes = []
    for schedule in noted:
        old = stored.get(schedule.name, []) if isinstance(stored, Mapping) else stored or []
        changes = _changed_hyperparameters(schedule) + _changed_schedulers(schedule, old)
        if not changes:
            continue
        if any(getattr(scheduler, "need_val_args", False) for scheduler in schedule.schedulers):
            notes.append(
                f"the config's schedule ({', '.join(changes)}) is not followed: it depends on "
                "validations, so the checkpoint's goes on"
            )
            continue
        rate = _rates(schedule)
        _restart(schedule)
        _catch_up(runner, schedule)
        notes.append(
            f"the schedule is another than the checkpoint's ({', '.join(changes)}): the run goes "
            f"on with the config's, at a learning rate of {_rates(schedule)} instead of {rate}"
        )
    return notes


def _optimizers(runner: Any) -> Iterator[tuple[str | None, Any, Sequence[Any]]]:
    """Pair the optimizers of a runner with their schedulers."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers
    if not isinstance(wrapper, OptimWrapperDict):
        yield None, wrapper, schedulers or []
        return
    for name, part in wrapper.items():
        yield name, part, schedulers[name] if isinstance(schedulers, Mapping) else schedulers or []


def _hyperparameters(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _changed_hyperparameters(schedule: _Schedule) -> list[str]:
    """Name what differs apart from what schedulers set."""
    scheduled = {scheduler.param_name for scheduler in schedule.schedulers}
    scheduled |= {f"initial_{name}" for name in scheduled}
    changes = {}
    for group, wanted in zip(schedule.optimizer.param_groups, schedule.groups, strict=True):
        for name, value in wanted.items():
            old = group.get(name)
            if name not in scheduled and to_plain(old) != to_plain(value):
                changes[name] = f"{name} {old} -> {value}"
    return list(changes.values())


def _changed_schedulers(schedule: _Schedule, stored: Sequence[Any]) -> list[str]:
    names = [type(scheduler).__name__ for scheduler in schedule.schedulers]
    if len(stored) != len(names):
        return [f"{len(stored)} schedulers -> {', '.join(names) or 'none'}"]
    changes = []
    for kind, old, new in zip(names, stored, schedule.states, strict=True):
        old, new = to_plain(old), to_plain(new)
        for name in sorted(new.keys() - _PROGRESS):
            if old.get(name) != new[name]:
                changes.append(f"{kind}.{name} {_short(old.get(name))} -> {_short(new[name])}")
    return changes


def _short(value: Any) -> str:
    text = f"{value}"
    return text if len(text) < 60 else f"{text[:50]}..."


def _rates(schedule: _Schedule) -> str:
    rates = [group["lr"] for group in schedule.optimizer.param_groups if "lr" in group]
    return f"{max(rates):.4g}" if rates else "none"


def _restart(schedule: _Schedule) -> None:
    for group, wanted in zip(schedule.optimizer.param_groups, schedule.groups, strict=True):
        group.update(wanted)
    for scheduler, state in zip(schedule.schedulers, schedule.states, strict=True):
        scheduler.load_state_dict(copy.deepcopy(state))


def _catch_up(runner: Any, schedule: _Schedule) -> None:
    """Step the schedulers as often as the run so far would have.

    Groups of equal hyperparameters, of which there may be one per weight, are computed once.
    """
    keys = [repr(group) for group in schedule.groups]
    chosen = [keys.index(key) for key in dict.fromkeys(keys)]
    place = {keys[number]: position for position, number in enumerate(chosen)}
    optimizer = SimpleNamespace(
        param_groups=[dict(schedule.groups[number]) for number in chosen],
        step=SimpleNamespace(_with_counter=True),
        _global_step=0,
    )
    copies = [copy.copy(scheduler) for scheduler in schedule.schedulers]
    for part in copies:
        part.optimizer, part.base_values = optimizer, [part.base_values[n] for n in chosen]
    for by_epoch in _steps(runner):
        for part in copies:
            if part.by_epoch == by_epoch:
                part.step()
    for group, key in zip(schedule.optimizer.param_groups, keys, strict=True):
        group.update(optimizer.param_groups[place[key]])
    for scheduler, part in zip(schedule.schedulers, copies, strict=True):
        values = [part._last_value[place[key]] for key in keys]
        state = part.state_dict() | {"base_values": scheduler.base_values, "_last_value": values}
        scheduler.load_state_dict(state)


def _steps(runner: Any) -> Iterator[bool]:
    """Yield for each finished iteration False, for each finished epoch True, in their order."""
    length = len(runner.train_dataloader) if runner.epoch else 0
    for iteration in range(1, runner.iter + 1):
        yield False
        if length and iteration % length == 0 and iteration // length <= runner.epoch:
            yield True
