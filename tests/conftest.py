"""Fixtures of all rooms."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: two threads each would wait for one another (docs/log.md)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest


@pytest.fixture(autouse=True)
def threads_as_before():
    """A test that leaves torch with another number of threads changes the last bits of all that follow."""
    import torch

    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before


@pytest.fixture(scope="session")
def toy_folder() -> Path:
    """Folder of the debug model, trained for a minute on toy speech."""
    from tests import toy

    return toy.trained_folder()


@pytest.fixture
def toy_base(toy_folder):
    """The trained debug model, freshly loaded, context dynamic."""
    from zoo.whisper_family import family

    return family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")


@pytest.fixture(scope="session")
def toy_store(toy_folder, tmp_path_factory) -> Path:
    """A store for the trained debug model, with a classifier beside the adapters."""
    from tests.toy_router import build_store

    return build_store(toy_folder, tmp_path_factory.mktemp("store"))
