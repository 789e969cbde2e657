# SPDX-License-Identifier: Apache-2.0
"""Data parallelism in the open: each rank takes a slice of the global batch by draw number, and the mean gradient is shared
once per update. Outside torch.distributed there is one rank and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Which process this is, and of how many."""

    rank: int = 0
    count: int = 1

    @staticmethod
    def present() -> Ranks:
        """The ranks of the initialised process group, or the one process there is."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return Ranks()

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its mean over the ranks, in one message per dtype."""
        if self.count > 1:
            given = list(tensors)
            for dtype in sorted({tensor.dtype for tensor in given}, key=str):
                chosen = [tensor for tensor in given if tensor.dtype == dtype]
                flat = torch.cat([tensor.reshape(-1) for tensor in chosen])
                torch.distributed.all_reduce(flat)
                flat /= self.count
                for tensor, part in zip(chosen, torch.split(flat, [tensor.numel() for tensor in chosen]), strict=True):
                    tensor.copy_(part.view_as(tensor))

    def copy_first_(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by that of rank 0."""
        if self.count > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def gather(self, tensor: Tensor, device: torch.device) -> Tensor:
        """The ranks' tensors one after the other along the last dimension, in the order of the ranks, on the CPU."""
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor, device=device) for _ in range(self.count)]
        torch.distributed.all_gather(parts, tensor.to(device).contiguous())
        return torch.cat([part.to(tensor.device) for part in parts], -1)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set on any rank."""
        if self.count == 1:
            return flag
        votes = torch.tensor([float(flag)], device=device)
        torch.distributed.all_reduce(votes)
        return bool(votes > 0)
