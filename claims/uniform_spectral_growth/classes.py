"""Imbalanced classes: every class is learned at the same rate, by one linear layer or many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from claims.registry import DEVICES, ROUNDS_IN, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import PAPER
from geometry.polar import msign

# Powers of two, and targets that are whole powers of multiples of eta: every W below is exact in
# float32, so a class stops on its target to the last bit.
ETA = 2.0**-5
INPUT_VARIANCES = (1.0, 0.5, 0.25, 0.125, 2.0)
LAYER_TARGETS = (24, 20, 13, 7, 3)
DEPTHS = (1, 2, 3)
STEPS = 32


def _layer_gradients(layers: list[Tensor], residual: Tensor) -> list[Tensor]:
    """Gradients of 1/2 E ||W_L ... W_1 x - y||^2, for residual = W Sxx - Syx."""
    gradients = []
    for index in range(len(layers)):
        after = before = torch.eye(len(residual)).to(residual)
        for layer in layers[index + 1 :]:
            after = layer @ after
        for layer in layers[:index]:
            before = layer @ before
        gradients.append(after.mT @ residual @ before.mT)
    return gradients


def _train(setting: Setting, depth: int, direction: Callable[[Tensor], Tensor]) -> Tensor:
    """diag(W_t), (STEPS + 1, classes), for ``depth`` layers started at eta I (at 0 for one)."""
    inputs = torch.tensor(INPUT_VARIANCES, dtype=setting.dtype(torch.float64))
    inputs = inputs.to(setting.device)
    targets = (ETA * inputs.new_tensor(LAYER_TARGETS)) ** depth
    begin = 0.0 if depth == 1 else ETA
    layers = [begin * torch.eye(len(inputs)).to(inputs) for _ in range(depth)]
    path = []
    for _ in range(STEPS + 1):
        W = layers[0]
        for layer in layers[1:]:
            W = layer @ W
        path.append(W.diagonal())
        residual = W * inputs - torch.diag(targets * inputs)
        gradients = _layer_gradients(layers, residual)
        layers = [
            layer - ETA * direction(gradient)
            for layer, gradient in zip(layers, gradients, strict=True)
        ]
    return torch.stack(path)


def _classes(setting: Setting, direction: Callable[[Tensor], Tensor]) -> Evidence:
    measurements, arrays = [], {}
    for depth in DEPTHS:
        path = _train(setting, depth, direction).cpu()
        strength = ETA * (torch.arange(STEPS + 1, dtype=torch.float64) + (depth > 1))
        layer_target = ETA * torch.tensor(LAYER_TARGETS, dtype=torch.float64)
        formula = torch.minimum(strength[:, None], layer_target) ** depth
        arrays[f"depth_{depth}"] = path.numpy()
        measurements.append(
            Measurement(
                f"largest distance from the formula, depth {depth}",
                float((path - formula).abs().max()), "<=", 1e-10,
            )
        )  # fmt: skip
    arrays["targets"] = np.array(LAYER_TARGETS) * ETA
    return Evidence(tuple(measurements), arrays)


def check_classes(setting: Setting) -> Evidence:
    """SpecGD on a linear layer: W_t[c, c] = min(eta t, sxy_c / sxx_c), whatever the class sizes.

    With diagonal Sxx and Syx the gradient W Sxx - Syx stays diagonal and its polar factor is its
    sign, so each class moves eta a step until it is exact and then stays, msign(0) being 0. L
    layers, all diagonal and equal, move alike: w_t = min(w_0 + eta t, (sxy_c/sxx_c)^(1/L)), and
    W_t = w_t^L. The setting is exact in floating point; the seed plays no part.
    """
    return _classes(setting, msign)


def control_gradient_descent(setting: Setting) -> Evidence:
    """Gradient descent with the same step."""
    return _classes(setting, lambda gradient: gradient)


CLAIMS = (
    Claim(
        id="usg.imbalanced-classes",
        paper=PAPER,
        title="Imbalanced classes are learned at one rate",
        statement=(
            r"SpecGD on one linear layer has $W_t[c,c] = \min(\eta t,\ s_{xy,c}/s_{xx,c})$; with "
            r"$L$ layers each saturates at $(s_{xy,c}/s_{xx,c})^{1/L}$."
        ),
        reference="ICLR 2026, Muon on imbalanced data",
        source="related",
        setup="5 classes with input variances 1/8 to 2, targets (j eta)^L for j = 24, 20, 13, 7, "
        "3, eta = 1/32, 32 steps, depths 1, 2, 3; exact in float64",
        criterion="within 1e-10 of the formula at every step",
        check=check_classes,
        devices=DEVICES,
        dtypes=ROUNDS_IN,
        controls={"gradient descent": control_gradient_descent},
    ),
)
