# SPDX-License-Identifier: Apache-2.0
"""Every test of this room keeps its caches in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ORNSTEIN_HOME", str(folder))
    return folder
