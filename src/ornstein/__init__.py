# SPDX-License-Identifier: Apache-2.0
"""Ornstein: a diffusion-model workbench. Importing this package does not import torch."""

__version__ = "0.1.0"
