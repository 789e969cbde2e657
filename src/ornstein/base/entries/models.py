# SPDX-License-Identifier: Apache-2.0
"""Predictions and networks."""

from __future__ import annotations

from ornstein.base.parts import SIGMA_DATA, Entry, Param, traits

_PREDICTION = "ornstein.model.prediction"
_TIME_SCALE = Param(float, 1000.0, "[0.01, 100000]", "factor on the noise level before it becomes waves")

ENTRIES = (
    Entry("prediction", "x0", f"{_PREDICTION}:X0"),
    Entry("prediction", "eps", f"{_PREDICTION}:Eps", traits=traits("needs-signal")),
    Entry("prediction", "v", f"{_PREDICTION}:V"),
    Entry("prediction", "velocity", f"{_PREDICTION}:Velocity"),
    Entry("prediction", "score", f"{_PREDICTION}:Score", traits=traits("needs-signal")),
    Entry("prediction", "edm", f"{_PREDICTION}:Edm", {"sigma_data": SIGMA_DATA}),

    Entry("network", "unet", "ornstein.network.unet:UNet", {
        "channels": Param(tuple, (64, 128, 128), "[4, 8192]", "channels per level, from the image's size downwards", length=(1, 8)),
        "blocks": Param(int, 2, "[1, 32]", "residual blocks per level"),
        "attention": Param(tuple, (1,), "[0, 7]", "levels with self-attention; 0 is the image's size", length=(0, 8)),
        "head_width": Param(int, 32, "[1, 1024]", "channels per attention head"),
        "dropout": Param(float, 0.0, "[0, 1)", "probability in training"),
        "groups": Param(int, 32, "[1, 1024]", "of the normalisations, at most"),
        "patch": Param(int, 1, "[1, 16]", "side of the squares of pixels that become channels"),
        "time_scale": _TIME_SCALE,
    }, wired=("in_channels", "out_channels", "classes", "vector", "features", "checkpointing"), traits=traits("image", "checkpointing")),
    Entry("network", "mlp", "ornstein.network.mlp:MLP", {
        "width": Param(int, 128, "[4, 65536]", "hidden width", multiple_of=2),
        "depth": Param(int, 4, "[1, 256]", "residual blocks"),
        "time_scale": _TIME_SCALE,
    }, wired=("dim", "classes", "vector", "features", "out"), traits=traits("points", "second-derivative")),
    Entry("network", "encoder", "ornstein.network.encoder:Encoder", {
        "channels": Param(tuple, (32, 64), "[4, 8192]", "channels per level, from the image's size downwards", length=(1, 8)),
        "blocks": Param(int, 2, "[1, 32]", "residual blocks per level"),
        "attention": Param(tuple, (), "[0, 7]", "levels with self-attention; 0 is the image's size", length=(0, 8)),
        "head_width": Param(int, 32, "[1, 1024]", "channels per attention head"),
        "dropout": Param(float, 0.0, "[0, 1)", "probability in training"),
        "groups": Param(int, 32, "[1, 1024]", "of the normalisations, at most"),
        "patch": Param(int, 1, "[1, 16]", "side of the squares of pixels that become channels"),
    }, wired=("in_channels", "classes", "features"), traits=traits("image", "logits")),
    Entry("network", "point-encoder", "ornstein.network.encoder:PointEncoder", {
        "width": Param(int, 128, "[4, 65536]", "hidden width", multiple_of=2),
        "depth": Param(int, 3, "[1, 256]", "residual blocks"),
    }, wired=("dim", "classes", "features"), traits=traits("points", "logits")),
)  # fmt: skip
