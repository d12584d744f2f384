import collections
import os
import pickle

import numpy as np
import pytest
import torch

from mmpanoptic.checkpoints.errors import CheckpointError, DamagedCheckpointError
from mmpanoptic.checkpoints.restricted_pickle import load_weights_pickle


@pytest.fixture
def dump(tmp_path):
    def write(content, protocol=4):
        path = tmp_path / "weights.pkl"
        data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_numbers_come_back_bit_by_bit(dump, protocol):
    arrays = {
        "c": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(4, dtype=">f4"),
        "half": np.float16([1, 2]),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.int64),
        "zero-dimensional": np.array(7, np.int64),
        "strided": np.arange(10)[::2],
    }
    content = {"model": arrays, "__author__": "somebody", "scalar": np.float64(0.5)}
    read = load_weights_pickle(dump(content, protocol))
    assert read["__author__"] == "somebody"
    assert read["scalar"] == 0.5
    for name, array in arrays.items():
        np.testing.assert_array_equal(read["model"][name], array)
        assert read["model"][name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_and_state_dicts_come_back(dump, protocol):
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    state = model.state_dict()
    state["view"] = torch.arange(12.0).view(3, 4)[1:, ::2]
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    state["half"] = torch.ones(2, dtype=torch.bfloat16)
    assert "_metadata" in vars(state)
    read = load_weights_pickle(dump({"model": state, "matching_heuristics": True}, protocol))
    assert type(read["model"]) is dict
    assert read["model"].keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(read["model"][name], value)
        assert read["model"][name].dtype == value.dtype


def test_texts_of_python_2_are_read(dump):
    # What Python 2 and NumPy 1 wrote for {"w": np.float32([1.0])}: raw bytes in a str.
    data = (
        b"\x80\x02}q\x00U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x01\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x00\x00\x80?tbs."
    )
    np.testing.assert_array_equal(load_weights_pickle(dump(data))["w"], np.float32([1]))


class RunsCode:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "attack",
    [
        lambda mark: RunsCode(os.system, f"touch {mark}"),
        lambda mark: RunsCode(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: RunsCode(getattr, "text", "upper"),
        lambda mark: RunsCode(torch.load, str(mark)),
        lambda mark: {"model": {"w": RunsCode(os.mkdir, str(mark))}},
        lambda mark: collections.Counter("a"),
        lambda mark: np.array([RunsCode(os.mkdir, str(mark))], dtype=object),
    ],
)
def test_anything_but_weights_is_refused_and_not_run(dump, tmp_path, attack):
    mark = tmp_path / "mark"
    with pytest.raises(CheckpointError, match="holds more than weights") as caught:
        load_weights_pickle(dump(attack(mark)))
    assert str(tmp_path / "weights.pkl") in str(caught.value)
    assert not mark.exists()


def test_allowed_functions_cannot_be_changed(dump):
    # GLOBAL numpy.dtype, then BUILD with {"x": 1}.
    with pytest.raises(CheckpointError, match="change of a function"):
        load_weights_pickle(dump(b"cnumpy\ndtype\n}U\x01xK\x01sb."))


def test_an_allowed_function_in_place_of_a_value_is_refused(dump):
    with pytest.raises(DamagedCheckpointError):
        load_weights_pickle(dump(b"cnumpy\ndtype\n."))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_tensors_beyond_their_data_are_refused(dump):
    class Beyond:
        def __reduce__(self):
            storage = torch.ones(4).storage()
            return torch._utils._rebuild_tensor_v2, (storage, 2, (3,), (1,), False, {})

    with pytest.raises(DamagedCheckpointError, match="out of bounds"):
        load_weights_pickle(dump(Beyond()))


def test_arrays_with_too_few_bytes_are_refused(dump):
    data = pickle.dumps({"w": np.zeros(4, np.float32)}, 2)
    data = data.replace(b"K\x04\x85", b"K\x05\x85")
    with pytest.raises(DamagedCheckpointError, match="cannot be read"):
        load_weights_pickle(dump(data))


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"a": [1] * 100})[:-20]])
def test_damaged_files_are_reported(dump, content):
    with pytest.raises(DamagedCheckpointError, match="cannot be read as a pickle of weights"):
        load_weights_pickle(dump(content))


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(CheckpointError, match="there is no file"):
        load_weights_pickle(tmp_path / "none.pkl")


def test_hidden_methods_of_a_dict_do_not_matter(dump):
    class Hider(collections.OrderedDict):
        def __reduce__(self):
            return collections.OrderedDict, (), {"items": 3}, None, iter([("w", 1)])

    assert load_weights_pickle(dump(Hider())) == {"w": 1}
