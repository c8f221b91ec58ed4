"""The arrows between the rooms, read from the imports; and the size and the names of files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = {"geometry", "flows", "simulate", "claims", "figures", "paper_checks", "benchmarks"}
ALLOWED: dict[str, set[str]] = {
    "geometry": {"geometry"},
    "flows": {"geometry", "flows"},
    "simulate": {
        "geometry",
        "simulate",
        "flows.MatrixFactorization",
        "flows.Trajectory",
        "flows.problem",
        "flows.trajectory",
    },
    "claims": {"geometry", "flows", "simulate", "claims"},
    "figures": {"figures", "claims.registry", "claims.results"},
    "paper_checks": {"claims", "figures"},
    "benchmarks": {"geometry", "flows", "simulate", "claims", "benchmarks"},
}
# What papers share; it knows none of them, as they do not know each other.
SHARED = ("registry", "measuring")
MACHINERY = {
    "judging", "registry", "requirements", "results", "running", "selection", "subject", "terminal"
}  # fmt: skip
ROOMS = {"geometry", "flows", "simulate", "claims", "figures", "tests", "benchmarks", "docs"}
LEFT_BY_TOOLS = {"build", "dist", "out", "__pycache__"}
NAMELESS = {"utils", "util", "helpers", "helper", "misc", "common"}
LONGEST = 400


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of ours below ``root`` outside the tests, with its dotted name."""
    for room in sorted(ALLOWED):
        for path in [root / f"{room}.py", *sorted((root / room).rglob("*.py"))]:
            if path.exists():
                parts = path.relative_to(root).with_suffix("").parts
                yield ".".join(part for part in parts if part != "__init__"), path


def imported(name: str, path: Path) -> Iterator[str]:
    """The modules of ours that the module called ``name`` imports, wherever in its code."""
    is_package = path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, *([base] if base else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        yield from (target for target in targets if target.split(".")[0] in PACKAGE)


def within(target: str, prefix: str) -> bool:
    return target == prefix or target.startswith(f"{prefix}.")


def wrong_arrows(root: Path) -> list[str]:
    """Every import against the arrows, as a sentence."""
    wrong = []
    for name, path in modules(root):
        parts = name.split(".")
        for target in imported(name, path):
            aim = target.split(".")
            if not any(within(target, prefix) for prefix in ALLOWED[parts[0]]):
                wrong.append(f"{name} imports {target}")
            elif is_paper(parts) and aim[0] == "claims" and aim[1] not in (*SHARED, parts[1]):
                wrong.append(f"{name} imports {target}: a paper has claims.registry and itself")
            elif is_optimizer(parts) and not is_optimizer(aim) and aim[0] != "geometry":
                wrong.append(f"{name} imports {target}: an optimiser knows no task")
    return wrong


def is_paper(parts: list[str]) -> bool:
    """Whether the module belongs to a paper, not to what declares, runs, records and prints."""
    return parts[0] == "claims" and len(parts) > 1 and parts[1] not in MACHINERY


def is_optimizer(parts: list[str]) -> bool:
    return parts[:2] == ["simulate", "optimizers"]


def ill_kept_files(root: Path) -> list[str]:
    """Files that are too long or are named for nothing, and rooms that the house does not have."""
    wrong = []
    for top in sorted(path for path in root.iterdir() if path.is_dir()):
        if top.name.startswith(".") or top.name in LEFT_BY_TOOLS or top.suffix == ".egg-info":
            continue
        if top.name not in ROOMS:
            wrong.append(f"{top.name}/ is no room of this house")
        for path in sorted(top.rglob("*.py")):
            if named_ill(path):
                wrong.append(f"{path.relative_to(root)} is named for nothing")
            if long(path):
                wrong.append(f"{path.relative_to(root)} has over {LONGEST} lines")
    return wrong


def named_ill(path: Path) -> bool:
    return path.stem in NAMELESS or path.parent.name in NAMELESS


def long(path: Path) -> bool:
    return len(path.read_text(encoding="utf-8").splitlines()) > LONGEST


def test_all_arrows_go_one_way() -> None:
    assert len(list(modules(ROOT))) > 10
    assert wrong_arrows(ROOT) == []


def test_files_are_short_and_named_for_what_they_hold() -> None:
    assert ill_kept_files(ROOT) == []
    assert not long(ROOT / "paper_checks.py")


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            yield node


def forgetful_measurements(root: Path) -> list[str]:
    """Those by the built-in max or min of a list, which drop a NaN that is not the first."""
    return [
        f"{path.relative_to(root)}: {ast.unparse(extreme)}"
        for path in sorted((root / "claims").rglob("*.py"))
        for measurement in calls(ast.parse(path.read_text(encoding="utf-8")), "Measurement")
        for extreme in calls(measurement, "max", "min")
        if len(extreme.args) == 1
    ]


def test_no_measurement_drops_what_is_not_a_number(tmp_path: Path) -> None:
    assert forgetful_measurements(ROOT) == []
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "a.py").write_text(
        'Measurement("a", max(errors), "<=", 1)\nMeasurement("b", np.max(errors), "<=", max(m, n))'
    )
    assert forgetful_measurements(tmp_path) == ["claims/a.py: max(errors)"]


def test_wrong_arrows_are_caught(tmp_path: Path) -> None:
    sources = {
        "geometry/a.py": "from flows.problem import Problem",
        "geometry/b.py": "import numpy\nfrom geometry import a",
        "flows/a.py": "def f():\n    import claims.registry",
        "flows/b.py": "from geometry.a import x\nfrom . import a\nfrom .a import y",
        "figures/a.py": "from claims.results import Recorded\nfrom claims import registry",
        "figures/b.py": "from claims.running.one import run_claim",
        "figures/c.py": "from claims import REGISTRY\nimport torch",
        "simulate/a.py": "from ..claims import registry",
        "simulate/b.py": "from flows import MatrixFactorization\nfrom flows.problem import x",
        "simulate/c.py": "from flows import integrate\nfrom simulate.optimizers import a",
        "simulate/optimizers/a.py": "from geometry import a\nfrom . import b",
        "simulate/optimizers/b.py": "from simulate.a import x\nfrom flows import Trajectory",
        "claims/__init__.py": "from claims import one, other",
        "claims/one/__init__.py": "from .a import x",
        "claims/one/a.py": "from claims.registry import Claim\nfrom ..other import b",
        "claims/other/__init__.py": "",
        "claims/other/b.py": "from claims.other import c\nfrom paper_checks import app",
        "paper_checks.py": "from claims import registry\nfrom geometry import a",
    }
    for place, source in sources.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(source)
    assert wrong_arrows(tmp_path) == [
        "claims.one.a imports claims.other.b: a paper has claims.registry and itself",
        "claims.other.b imports paper_checks.app",
        "figures.b imports claims.running.one.run_claim",
        "figures.c imports claims.REGISTRY",
        "flows.a imports claims.registry",
        "geometry.a imports flows.problem.Problem",
        "paper_checks imports geometry.a",
        "simulate.a imports claims.registry",
        "simulate.c imports flows.integrate",
        "simulate.optimizers.b imports simulate.a.x: an optimiser knows no task",
        "simulate.optimizers.b imports flows.Trajectory: an optimiser knows no task",
    ]


def test_ill_kept_files_are_caught(tmp_path: Path) -> None:
    for place, lines in {
        "flows/utils.py": 1,
        "flows/long.py": LONGEST + 1,
        "flows/fine.py": LONGEST,
        "flows/common/a.py": 1,
        "attic/a.py": 1,
        ".cache/utils.py": 1,
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("x = 1\n" * lines)
    assert ill_kept_files(tmp_path) == [
        "attic/ is no room of this house",
        "flows/common/a.py is named for nothing",
        f"flows/long.py has over {LONGEST} lines",
        "flows/utils.py is named for nothing",
    ]
