from mmpanoptic.apis.live_fusion import KeptOutputs
from mmpanoptic.serving.kept_images import KeptImages


def outputs(nbytes):
    return KeptOutputs(None, None, None, nbytes)


def test_what_was_longest_not_asked_for_goes_first():
    kept = KeptImages(2, 100)
    a, b = kept.add(outputs(10)), kept.add(outputs(10))
    assert kept.get(a).nbytes == 10
    c = kept.add(outputs(10))
    assert kept.get(b) is None
    assert kept.get(a)
    assert kept.get(c)
    assert (len(kept), kept.nbytes) == (2, 20)


def test_bytes_are_bounded():
    kept = KeptImages(10, 100)
    names = [kept.add(outputs(40)) for _ in range(5)]
    assert (len(kept), kept.nbytes) == (2, 80)
    assert [kept.get(name) is not None for name in names] == [False] * 3 + [True] * 2
    assert kept.add(outputs(101)) is None
    assert kept.add(outputs(100))
    assert (len(kept), kept.nbytes) == (1, 100)


def test_an_image_takes_the_place_of_its_clients_last_one():
    kept = KeptImages(3, 100)
    first = kept.add(outputs(1))
    second = kept.add(outputs(2), instead=first)
    assert kept.get(first) is None
    assert kept.add(outputs(3), instead="unknown")
    assert kept.get(second)
    assert kept.nbytes == 5


def test_nothing_is_kept_where_nothing_may_be():
    assert KeptImages(0, 100).add(outputs(1)) is None
