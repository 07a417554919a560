"""A mount against a local directory: random lives, compared step by step; see `tests/model.py`.

Each example has a directory of its own on a mount that lives as long as the file. A failure
shrinks and prints the line that repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.conftest import make_client, remove_bucket
from tests.model import Twins, twins_on
from tests.rgw import Gateway
from tests.s5_mount.conftest import alive
from tests.s5_mount.mounting import Cli, Mount
from tests.steps import Step, any_large, any_local, any_or_death, any_remote, lives

pytestmark = pytest.mark.timeout(600)  # shrinking takes its time
MakeTwins = Callable[..., Twins]

ASKING = ("--cache-ttl", "0", "--upload-delay", "0")
BELIEVING = ("--cache-ttl", "3600", "--upload-delay", "0.05")
SLOW = ("--cache-ttl", "3600", "--upload-delay", "0.5")


def real(examples: int) -> settings:
    """For a test that takes real time; failures say how to repeat them."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,  # the same lives each time; `make soak` draws others
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )


@pytest.fixture(scope="module")
def twins(
    gateway: Gateway, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeTwins]:
    """Make twins on the mount with these options, which is made when it is first wanted."""
    s3 = make_client(gateway)
    made: dict[tuple[str, ...], Mount] = {}

    def mount(options: tuple[str, ...]) -> Mount:
        place = tmp_path_factory.mktemp("model")
        one = made[options] = Mount(cli, f"model-{uuid4().hex}", place / "mnt", place / "cache")
        s3.create_bucket(Bucket=one.bucket)
        alive.append(one)
        one.start(options, {})
        return one

    def make(*options: str) -> Twins:
        return twins_on(made.get(options) or mount(options), s3, options)

    try:
        yield make
    finally:
        for one in made.values():
            alive.remove(one)
            one.remove()
            remove_bucket(s3, one.bucket)
        s3.close()


@real(40)
@given(life=lives(any_local, 60))
def test_lives_of_a_mount_that_believes(twins: MakeTwins, life: list[Step]) -> None:
    twins(*BELIEVING).live(life)


REMOVED = [  # while it is open: its object is there until it is closed
    Step("open", "b", other="empty", slot=2),
    Step("pwrite", slot=2, data=b"kept"),
    Step("fsync", slot=2),
    Step("unlink", "b"),
    Step("settle"),
    Step("put", "a", data=b"others'"),
    Step("put", "b", data=b"others'"),
    Step("close", slot=2),
    Step("put", "b", data=b"others'"),
]


@real(20)
@given(life=lives(any_remote, 60))
@example(life=REMOVED)
def test_lives_with_others_in_the_bucket(twins: MakeTwins, life: list[Step]) -> None:
    twins(*ASKING).live(life)


@real(12)
@given(life=lives(any_large, 25), options=st.sampled_from([BELIEVING, SLOW]))
def test_lives_of_large_files(twins: MakeTwins, life: list[Step], options: tuple[str, ...]) -> None:
    twins(*options).live(life)


@real(12)
@given(
    life=lives(any_or_death, 60),
    options=st.sampled_from([BELIEVING, SLOW]),
)
def test_lives_with_deaths(twins: MakeTwins, life: list[Step], options: tuple[str, ...]) -> None:
    twins(*options).live(life)
