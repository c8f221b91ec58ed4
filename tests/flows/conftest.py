"""Fixtures of the flows."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import REAL


@pytest.fixture(scope="module", params=REAL)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that this machine has: to integrate elsewhere takes minutes."""
    return torch.device(request.param)
