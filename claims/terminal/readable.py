r"""Statements in plain text: ``$\sigma_i \le \beta^2$`` becomes σᵢ ≤ β²."""

from __future__ import annotations

import re

GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi pi "
        "rho sigma tau upsilon phi varphi chi psi omega "
        "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        "αβγδεεζηθικλμνξπρστυφφχψωΓΔΘΛΞΠΣΦΨΩ",
        strict=True,
    )
)
SYMBOLS = GREEK | {
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ll": "≪", "gg": "≫", "neq": "≠", "ne": "≠",
    "approx": "≈", "sim": "∼", "propto": "∝", "equiv": "≡", "pm": "±", "times": "×", "cdot": "·",
    "to": "→", "rightarrow": "→", "mapsto": "↦", "infty": "∞", "sum": "Σ", "prod": "Π", "int": "∫",
    "partial": "∂", "nabla": "∇", "in": "∈", "subset": "⊂", "forall": "∀", "exists": "∃",
    "top": "ᵀ", "dagger": "†", "star": "⋆", "ast": "*", "circ": "∘", "dots": "…", "ldots": "…",
    "cdots": "⋯", "lVert": "‖", "rVert": "‖", "Vert": "‖", "|": "‖", "lvert": "|", "rvert": "|",
    "langle": "⟨", "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉",
    "quad": " ", "qquad": " ", ",": " ", ";": " ", ":": " ", "!": "", " ": " ",
    "{": "\x01", "}": "\x02",
    "left": "", "right": "", "displaystyle": "", "ell": "ℓ", "dot": "", "bar": "", "hat": "",
    "big": "", "Big": "", "bigl": "", "bigr": "", "Bigl": "", "Bigr": "", "\\": "; ",
}  # fmt: skip
FONTS = "text mathrm mathbf mathcal mathbb mathit operatorname boldsymbol textbf emph".split()
RAISED = dict(zip("0123456789+-=()inTᵀ⋆*†", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁱⁿᵀᵀ⋆*†", strict=True))
LOWERED = dict(
    zip(
        "0123456789+-=()aehijklmnoprstuvxβγρφχ",
        "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ",
        strict=True,
    )
)
# Nothing stands between these and what they enclose.
OPENING = r"\\(lVert|lvert|langle|lfloor|lceil|left)\b"
GROUP = r"\{([^{}]*)\}"


def readable(statement: str) -> str:
    """``statement`` with its LaTeX between dollar signs written in Unicode, as far as it goes."""
    parts = re.split(r"\$\$?", statement)
    parts[1::2] = [_formula(part) for part in parts[1::2]]
    return "".join(parts)


def _formula(latex: str) -> str:
    text = re.sub(OPENING + r"\s*|\\([A-Za-z]+|.)", _command, latex)
    # Groups are resolved from the innermost outwards; every round removes at least one.
    while (resolved := _innermost(text)) != text:
        text = resolved
    text = re.sub(r"([_^])([^\s{}()\\_^])", lambda m: _script(m[1], m[2]), text)
    # Braces that are meant to be seen were kept apart from those that group.
    text = text.replace("\x01", "{").replace("\x02", "}")
    return re.sub(r"\s+", " ", text).strip()


def _command(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    if name in ("frac", "tfrac", "dfrac"):
        return "\\frac"
    if name == "sqrt":
        return "\\sqrt"
    if name in FONTS:
        return "\\text"
    return SYMBOLS.get(name, name)


def _innermost(text: str) -> str:
    rules = (
        (r"\\frac\s*" + GROUP + GROUP, lambda m: f"{_whole(m[1])}/{_whole(m[2])}"),
        (r"\\sqrt\s*" + GROUP, lambda m: f"√{_whole(m[1])}"),
        (r"\\text\s*" + GROUP, lambda m: m[1]),
        (r"([_^])" + GROUP, lambda m: _script(m[1], m[2])),
        (r"(?<![\\}a-z])" + GROUP, lambda m: m[1]),
    )
    for pattern, replacement in rules:
        replaced = re.sub(pattern, replacement, text, count=1)
        if replaced != text:
            return replaced
    return text


def _whole(text: str) -> str:
    """``text``, in parentheses unless it is a single term."""
    return text if re.fullmatch(r"[\w.√ᵢⱼₖ²ᵀ]+", text.strip()) else f"({text.strip()})"


def _script(kind: str, text: str) -> str:
    table = RAISED if kind == "^" else LOWERED
    text = text.strip()
    if text and all(letter in table for letter in text):
        return "".join(table[letter] for letter in text)
    return f"{kind}{text}" if len(text) == 1 else f"{kind}({text})"
