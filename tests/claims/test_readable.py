"""Statements as plain text."""

from __future__ import annotations

import pytest

from claims.terminal.readable import readable


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        ("no formula, 5 < 6", "no formula, 5 < 6"),
        (r"While $\sigma_i \le \beta^2$, so", "While σᵢ ≤ β², so"),
        (r"$\frac{d}{dt}\sqrt{d_i} = 1$", "d/dt√dᵢ = 1"),
        (r"$\frac{\beta}{\sigma_i x_0}$", "β/(σᵢ x₀)"),
        (r"$G (G^\top G + \beta^2 I)^{-1/2}$", "G (Gᵀ G + β² I)^(-1/2)"),
        (r"$\lVert G\rVert_* \ge \left(x\right)$", "‖G‖_* ≥ (x)"),
        (r"$\sqrt{\frac{a}{b}}$", "√(a/b)"),
        (r"$\sigma_{i+1}$, $t_{\mathrm{max}}$", "σᵢ₊₁, tₘₐₓ"),
        (r"$\{x : x > 0\}$", "{x : x > 0}"),
        (r"$\unknowncommand x$", "unknowncommand x"),
        (r"$a^{b^{c}}$", "a^(b^c)"),
    ],
)
def test_formulas_become_text(latex: str, text: str) -> None:
    assert readable(latex) == text
