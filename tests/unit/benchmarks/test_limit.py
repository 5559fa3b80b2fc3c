"""The limit, measured with a network that takes no time."""

from benchmarks.inference.limit import images_per_second, lone_seconds
from tests.unit.inference.networks import tiny_source
from tests.unit.inference.pictures import encoded, photo


def test_the_limit_is_measured_and_comes_to_its_end() -> None:
    model = tiny_source().load()
    files = [encoded(photo().resize((64, 48)), "JPEG")]
    assert images_per_second(model, files, cores=2, seconds=0.1) > 0
    assert lone_seconds(model, files) > 0
