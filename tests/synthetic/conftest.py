"""A world for the tests beside this file."""

import pytest

from cgeartheye.synthetic import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    """A world with a harbour and an airport, for all tests that only look at it."""
    return make_world(1536, seed=1)
