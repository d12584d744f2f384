"""Each key and each kind of a config, mistyped, is one line before the first iteration."""

import copy
import hashlib

import pytest
from mmengine.config import Config

from mmpanoptic import cli
from mmpanoptic.apis import get_config
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.engine.argument_names import check_log_names
from mmpanoptic.engine.config_keys import RUNNER_KEYS, value_of
from mmpanoptic.engine.console import quiet_console
from mmpanoptic.engine.loops import IterTrainLoop
from mmpanoptic.engine.runner import PanopticRunner
from mmpanoptic.engine.type_names import check_types
from mmpanoptic.registry import ConfigError, placeholders

CONFIGS = (
    "panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes",
    "mask2former_r18-tiny_1xb8-800_shapes",
    "cops_r18-tiny_e2e_1xb8-200_shapes",
    "auto-panoptic_tiny_1xb8-500_shapes",
)
SHARE = 24
"""One in so many places is tried in a test that is not slow."""
NAMED_OTHERWISE = ("launcher", "runner_type", "default_scope")
"""What the commands set, whatever a file says."""


class Began(Exception):  # noqa: N818 - no error
    """Training has begun."""


def without_variables(cfg, node):
    """Put values in place of variables, so that each place of the config has its own."""
    node = value_of(cfg, node)
    if isinstance(node, dict):
        return {key: without_variables(cfg, part) for key, part in node.items()}
    if isinstance(node, list | tuple):
        return [without_variables(cfg, part) for part in node]
    return node


def places(node, path=()):
    """Yield each key of a config, and each kind, with the way to the mapping that has it."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, part in items:
        if isinstance(key, str):
            yield path, key, False
        if key == "type" and isinstance(part, str):
            yield path, key, True
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def mistyped(word):
    """Leave a letter out, or double one of a short word."""
    place = max(1, len(word) * 2 // 3)
    return word[:place] + word[place + 1 :] if len(word) > 3 else word + word[-1]


def variant(base, path, key, of_kind):
    """Mistype one place; return the config and the new word."""
    cfg = copy.deepcopy(base)
    node = cfg
    for name in path:
        node = node[name]
    if of_kind:
        node[key] = mistyped(node[key])
        return cfg, node[key]
    content = {mistyped(name) if name == key else name: part for name, part in node.items()}
    node.clear()
    node.update(content)
    return cfg, mistyped(key)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("mistyped")
    generate_shapes(root / "shapes", {"train": 4, "val": 2}, ShapesSettings(64, 48))
    return root


@pytest.fixture
def begin(data, monkeypatch):
    """Build a run and begin it, up to its first iteration."""

    def stop(self):
        raise Began

    monkeypatch.setattr(IterTrainLoop, "run", stop)

    def run(content):
        cfg = Config(copy.deepcopy(content))
        cfg.work_dir = str(data / "run")
        with quiet_console(lambda *_: None):
            PanopticRunner.from_cfg(cfg).train()

    return run


def prepared(name, data):
    sizes = {"batch_size": 2, "num_workers": 0, "max_iters": 1}
    cfg = get_config(name, {"data_root": str(data / "shapes"), **sizes})
    cfg.load_from = None
    content = without_variables(cfg, cfg._cfg_dict.to_dict())
    named = {match[1] for key in RUNNER_KEYS & {*content} for match in placeholders(content[key])}
    return {key: part for key, part in content.items() if key in RUNNER_KEYS | named}


def faults(base, begin, chosen):
    """List the places whose mistyped word is not told, in one line, before training begins."""
    found = []
    for path, key, of_kind in chosen:
        cfg, word = variant(base, path, key, of_kind)
        where = f"{'.'.join(map(str, (*path, key)))} -> {word}"
        try:
            begin(cfg)
        except Began:
            found.append(f"{where}: nobody notices")
        except Exception as error:
            if not cli._is_foreseen(error) or word not in str(error):
                found.append(f"{where}: {type(error).__name__} {error}")
    return found


def chosen_places(base, config, share):
    """Choose one in ``share`` places, the same every time."""
    for path, key, of_kind in places(base):
        if (not path and key not in RUNNER_KEYS) or key in NAMED_OTHERWISE:
            continue
        if "custom_keys" in path and key not in ("lr_mult", "decay_mult"):
            continue  # parts of names of weights; one that fits nothing is a warning
        text = f"{config} {path} {key} {of_kind}".encode()
        if hashlib.sha256(text).digest()[0] % share == 0:
            yield path, key, of_kind


@pytest.mark.parametrize("config", CONFIGS[:3])
def test_some_mistyped_words_are_told_before_training(config, data, begin):
    base = prepared(config, data)
    with pytest.raises(Began):
        begin(base)
    chosen = [*chosen_places(base, config, SHARE)]
    assert len(chosen) > 5
    assert faults(base, begin, chosen) == []


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_all_mistyped_words_are_told_before_training(config, data, begin):
    base = prepared(config, data)
    assert faults(base, begin, chosen_places(base, config, 1)) == []


# ---- what no shipped config has -----------------------------------------------------------------

ADDED = {
    "a kind of averages": (
        {"custom_hooks": [{"type": "EMAHook", "ema_type": "ExponentialMovingAverag"}]},
        "no model ExponentialMovingAverag; did you mean ExponentialMovingAverage",
    ),
    "an argument of averages": (
        {"custom_hooks": [{"type": "EMAHook", "momentm": 0.1}]},
        "unexpected keyword argument 'momentm'; did you mean momentum",
    ),
    "an argument of compile": ({"compile": {"fulgraph": True}}, "fulgraph; did you mean fullgraph"),
    "a mode of compile": (
        {"compile": {"mode": "max-autotun"}},
        "compile.mode: .* max-autotun; did you mean max-autotune",
    ),
    "a backend of compile": (
        {"compile": {"backend": "inducto"}},
        "compile.backend: .* inducto; did you mean inductor",
    ),
    "an option of compile": (
        {"compile": {"options": {"max_autotun": True}}},
        "compile.options: .* max_autotun; did you mean max_autotune",
    ),
    "no settings of compile": ({"compile": "fast"}, "compile is True, False or a dict"),
}


@pytest.mark.parametrize("case", ADDED)
def test_a_mistyped_addition_is_told_before_training(case, data, begin):
    addition, words = ADDED[case]
    with pytest.raises(ConfigError, match=words):
        begin({**prepared(CONFIGS[0], data), **addition})


def test_what_torch_compile_takes_is_admitted():
    options = {"mode": "max-autotune", "dynamic": False, "fullgraph": True, "backend": "inductor"}
    for settings in (None, True, False, {}, options, {"options": {"max-autotune": True}}):
        check_types({"compile": settings})


def test_a_source_of_the_log_that_is_nearly_there_is_told_after_one_iteration():
    logged = ["loss", "loss_center", "lr"]
    assert check_log_names([{"data_src": "loss_center", "method_name": "mean"}], logged) == []
    with pytest.raises(ConfigError, match=r"0.data_src: .* loss_centr; did you mean loss_center"):
        check_log_names([{"data_src": "loss_centr"}], logged)
    (note,) = check_log_names([{"data_src": "accuracy"}], logged)
    assert "nothing logs accuracy so far, but loss, loss_center, lr" in note


def test_a_training_ends_at_a_source_that_is_nearly_there(data, tmp_path):
    cfg = prepared(CONFIGS[0], data)
    cfg["train_cfg"]["max_iters"] = 3
    asked = [{"data_src": "loss_offst", "method_name": "mean", "window_size": 2}]
    cfg["log_processor"]["custom_cfg"] = asked
    cfg["work_dir"] = str(tmp_path)
    with quiet_console(lambda *_: None), pytest.raises(ConfigError, match="did you mean loss_off"):
        PanopticRunner.from_cfg(Config(cfg)).train()


@pytest.fixture
def own_parts(tmp_path, monkeypatch):
    (tmp_path / "own_metrics_of_test.py").write_text("NAME = 1\n")
    (tmp_path / "broken_parts_of_test.py").write_text("import no_such_package_of_test\n")
    monkeypatch.syspath_prepend(tmp_path)

    def read(options):
        return get_config(CONFIGS[0], {f"custom_imports.{key}": v for key, v in options.items()})

    return read


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"imports": ["own_metric_of_test"]}, "own_metric_of_test; did you mean own_metrics_of"),
        ({"imports": ["mmpanoptic.modls"]}, "mmpanoptic.modls; did you mean mmpanoptic.models"),
        ({"imports": ["qqqqqqqqqq"]}, "no module qqqqqqqqqq; run from the folder that holds it"),
        ({"imports": ["broken_parts_of_test"]}, "broken_parts_of_test cannot be imported: No mod"),
        ({"import": ["own_metrics_of_test"]}, "nothing reads custom_imports.import; .* imports?"),
    ],
)
def test_a_module_that_is_not_there_is_one_line(own_parts, options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        own_parts(options)
    assert "\n" not in str(caught.value)


def test_a_module_that_may_be_absent_is_a_warning(own_parts):
    own_parts({"imports": ["own_metrics_of_test"]})
    with pytest.warns(UserWarning, match="did you mean own_metrics_of_test"):
        own_parts({"imports": "own_metric_of_test", "allow_failed_imports": True})
