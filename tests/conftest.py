import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # reference.py


@pytest.fixture
def rng():
    return np.random.default_rng(20260)


def pytest_addoption(parser):
    parser.addoption("--torch-device", help="where the tests make tensors of torch, such as cuda")


def pytest_configure(config):
    if device := config.getoption("--torch-device"):
        import torch

        torch.set_default_device(device)
