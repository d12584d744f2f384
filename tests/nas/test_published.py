"""Architectures and logs in the published formats."""

import json

import pytest

from mmpanoptic.apis import get_config
from mmpanoptic.engine.config import resolve_variables
from mmpanoptic.nas import SearchSpace
from mmpanoptic.nas.published import read_architecture, read_evaluations
from tests.golden import golden_dir

ENCODINGS = json.loads((golden_dir("auto_panoptic") / "encodings.json").read_text())


@pytest.fixture(scope="module")
def space():
    cfg = resolve_variables(get_config("auto-panoptic_supernet-1.3g_8xb2-90k_coco-nas"))
    return SearchSpace(cfg.search_space)


@pytest.mark.parametrize("name", ["COCO_3.8G", "ADE_3.8G"])
@pytest.mark.parametrize("suffix", ["", ".json", ".txt"])
def test_published_files_are_read_whatever_their_suffix(space, tmp_path, name, suffix):
    """A list with one object of three lists; COCO_3.8G seems to have the suffix .8G."""
    path = tmp_path / f"{name}{suffix}"
    path.write_text(json.dumps([ENCODINGS[name]["json"]]) + "\n")
    assert list(read_architecture(space, str(path))) == ENCODINGS[name]["flat"]


def test_texts_are_read_as_before(space):
    code = ENCODINGS["COCO_3.8G"]
    for text in (code["compact"], json.dumps(code["flat"]), json.dumps([code["json"]])):
        assert list(read_architecture(space, text)) == code["flat"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("COCO_3.8G", "no such file"),
        ("012", "got 3"),
        ('{"backbone": [1]}', "has the lists backbone, head, inter"),
    ],
)
def test_what_is_no_architecture_is_explained(space, code, words):
    with pytest.raises(ValueError, match=words):
        read_architecture(space, code)


def test_a_broken_file_is_named(space, tmp_path):
    path = tmp_path / "COCO_3.8G"
    path.write_bytes(b"\x80\x04\xff")
    with pytest.raises(ValueError, match=r"COCO_3\.8G.*is no text"):
        read_architecture(space, str(path))
    path.write_text("[1, 2")
    with pytest.raises(ValueError, match=r"COCO_3\.8G.*is no architecture"):
        read_architecture(space, str(path))


def entries(whole=False):
    """The log's entries, as three lists or as one."""
    for number, code in enumerate(ENCODINGS.values()):
        if whole:
            yield {"backbone_rngs": code["flat"], "pq": 20 + number}
        else:
            lists = {f"{name}_rngs": value for name, value in code["json"].items()}
            yield {**lists, "pq": f"{20 + number:.2f}", "pq_th": 1.0}


FORMS = {
    "list": json.dumps,
    "by_name": lambda found: json.dumps({f"rngs{k}": entry for k, entry in enumerate(found)}),
    "lines": lambda found: "\n".join(map(json.dumps, found)) + "\n",
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_published_log_is_read(space, tmp_path, form, whole):
    path = tmp_path / "search_log.json"
    path.write_text(FORMS[form](list(entries(whole))))
    found = read_evaluations(space, path)
    assert [list(arch) for arch, _ in found] == [code["flat"] for code in ENCODINGS.values()]
    assert [fitness for _, fitness in found] == [20.0 + k for k in range(len(ENCODINGS))]


def test_one_entry_alone_is_a_log_too(space, tmp_path):
    path = tmp_path / "log"
    path.write_text(json.dumps(next(entries())))
    assert len(read_evaluations(space, path)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"backbone_rngs": [0] * 40, "pq": 1}], "entry 0 does not fit.*head_rngs, inter_rngs"),
        ([{"backbone_rngs": [0] * 56}], "entry 0: there is no field 'pq'"),
        ([{"backbone_rngs": [9] * 56, "pq": 1}], "entry 0 does not fit.*choices 0..3"),
        ({"a": 5}, "entry a: expected an object with pq"),
        ([], "no evaluated architecture"),
        (7, "expected an object"),
    ],
)
def test_another_log_is_refused_in_words(space, tmp_path, content, words):
    path = tmp_path / "log.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_evaluations(space, path)


def test_a_text_that_is_no_json_is_named(space, tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("iter: 20 loss: 3\n")
    with pytest.raises(ValueError, match=r"log\.txt is no JSON"):
        read_evaluations(space, path)
