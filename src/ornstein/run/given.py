# SPDX-License-Identifier: Apache-2.0
"""What a drawing is given beside a condition: a picture to start from, a mask, a measurement to be undone.

A picture must have the size that is asked for; nothing is scaled or cut, so that what is kept stays pixel for pixel. In a mask
every pixel of 128 and more (of 255) is white and to be filled in, the others are kept; colours count by their luma.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ornstein.base.errors import DataError, UsageError
from ornstein.data.decode import BadImage, decode
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.model.guidance import Unconditioned
from ornstein.model.inpainting import Replaced
from ornstein.model.inverse import PosteriorSampled, PseudoinverseGuided
from ornstein.model.operators import AveragePool, Blur, Masked, Operator, gaussian_kernel
from ornstein.run.build import codec_of, guided
from ornstein.run.control import Control, Task
from ornstein.run.guides import check_class, knows_no_class
from ornstein.run.trained import Trained
from ornstein.sample.detours import resample
from ornstein.sample.draw import Sampler
from ornstein.sample.protocol import Renoise
from ornstein.sample.start import below_noise, from_level, inverted, level_of, noised

_WHITE = 128
_STRETCH = 2  # moves that are walked again; of ten moves, about what ten of 250 are in the paper
_NOISE = 0.05  # standard deviation that a measurement is taken to have, where nothing is said
_DATA_STD = 0.5  # of pixels in [-1, 1], where the recipe does not say


class Given(NamedTuple):
    """A sampler that keeps to what was given, and what pictures say about it."""

    sampler: Sampler
    words: dict[str, Any]


def given(made: Sampler, model: Trained, control: Control) -> Given:
    """The sampler with picture, mask and task put in.

    Raises:
        DataError: a file that is no picture, or of the wrong size.
        UsageError: a run that draws no pictures, a size that the task cannot have, a solver that cannot invert.
    """
    if control.init is None:
        return Given(made, {})
    if model.facts.kind != "image":
        raise UsageError("--init takes a picture, and this run draws points.", "Leave --init out.")
    _, height, width = model.facts.shape
    task = None if control.task is None else control.asked_task()
    factor = int(task.value or 1) if task is not None and task.name == "super-resolution" else 1
    if height % factor or width % factor:
        what = f"Pictures of {width}x{height} cannot be made {factor} times smaller."
        raise UsageError(what, "Choose a factor that divides both sides.")
    raw = read_picture(control.init, model.facts.shape[0], (height // factor, width // factor))
    picture = codec_of(model.facts).encode(raw[None])[0]
    words: dict[str, Any] = {"init": control.init.name, "init_hash": _hash(raw)}
    known = None
    if control.mask is not None:
        known = read_mask(control.mask, (height, width))
        words |= {"mask": control.mask.name, "mask_hash": _hash(known), "filled": int((~known).sum())}
    if task is not None:
        wrapped, said = _measured(made.model, model, control, task, picture, known)
        return Given(made._replace(model=wrapped), words | said)
    if known is not None:
        made = made._replace(model=Replaced(made.model, picture, known))
    return _started(made, model, control, picture, words)


def _measured(
    denoiser: Denoiser, model: Trained, control: Control, task: Task, picture: Tensor, known: Tensor | None
) -> tuple[Denoiser, dict[str, Any]]:
    """The denoiser that knows a measurement."""
    operator = _operator(task, known)
    measurement = operator(picture[None])[0] if known is not None else picture
    method = control.method or "pigdm"
    words: dict[str, Any] = {"task": control.task, "method": method}
    if method == "dps":
        return PosteriorSampled(denoiser, operator, measurement), words
    noise = _NOISE if control.noise is None else control.noise
    data_std = float(getattr(model.recipe.prediction, "sigma_data", _DATA_STD))
    return PseudoinverseGuided(denoiser, operator, measurement, noise, data_std), words | {"noise": noise}


def _operator(task: Task, known: Tensor | None) -> Operator:
    if task.name == "inpaint" and known is not None:
        return Masked(known)
    if task.name == "deblur":
        return Blur(gaussian_kernel(float(task.value or 0.0)))
    return AveragePool(int(task.value or 1))


def _started(made: Sampler, model: Trained, control: Control, picture: Tensor, words: dict[str, Any]) -> Given:
    """The sampler that starts from the picture; one that fills in starts from it at full noise unless told otherwise."""
    check_class(model.facts, control.init_label, "--init-label")
    strength = 1.0 if control.strength is None else control.strength
    schedule = model.model.process.schedule
    level = level_of(schedule, strength)
    plan = from_level(made.plan, level)
    if control.resample is not None:
        if any(isinstance(node, Renoise) for node in plan):
            what = "--resample walks stretches again, and the recipe's plan goes back up already."
            raise UsageError(what, "Choose a plain plan, for example --plan karras.")
        plan = resample(plan, _STRETCH, control.resample)
        words = words | {"resample": control.resample}
    words = words | {"strength": strength, "moves": len(plan) - 1}
    if not control.invert:
        return Given(made._replace(plan=plan, begin=noised(model.model.process, picture, level)), words)
    plan = below_noise(plan)
    up, condition = _way_up(made, model, control)
    begin = inverted(up, made.solver, plan, picture.to(model.device), condition)
    return Given(made._replace(plan=plan, begin=begin), words | {"invert": True, "init_label": control.init_label})


def _way_up(made: Sampler, model: Trained, control: Control) -> tuple[Denoiser, Callable[[Sequence[int]], Cond | None]]:
    """What the flow upwards follows: the picture's own class if that is said, else none, else that of the samples."""
    label, alone = control.init_label, guided(model.model, 1.0)
    if label is not None:
        return alone, lambda seeds: Cond(label=torch.full((len(seeds),), label))
    return (Unconditioned(alone), lambda seeds: None) if knows_no_class(model) else (alone, made.condition)


def read_picture(path: Path, channels: int, size: tuple[int, int]) -> Tensor:
    """A picture file as uint8 `(channels, height, width)`. Raises DataError unless it is one of exactly this size."""
    try:
        image = decode(path, channels).image
    except BadImage as error:
        what = f"{path} cannot be used: {error}." if path.exists() else f"There is no file {path}."
        raise DataError(what, "Give a picture, for example one that Ornstein drew.", path) from error
    if (image.height, image.width) != size:
        what = f"{path} has {image.width}x{image.height} pixels where {size[1]}x{size[0]} are needed."
        raise DataError(what, "Scale or cut the picture to that size.", path)
    pixels = np.asarray(image)
    return torch.tensor(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def read_mask(path: Path, size: tuple[int, int]) -> Bool[Tensor, "1 height width"]:
    """True where a mask keeps the picture. Raises DataError for a file that is no picture of this size, or keeps or fills all."""
    known = read_picture(path, 1, size) < _WHITE
    if bool(known.all()) or not bool(known.any()):
        what = f"{path} has {'nothing white, so nothing would be filled in' if bool(known.all()) else 'nothing black, so nothing is kept'}."
        raise DataError(what, "Paint white what is to be filled in, and black what is to stay.", path)
    return known


def _hash(tensor: Tensor) -> str:
    """First 12 hexadecimal digits of the SHA-256 of a tensor's numbers."""
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:12]
