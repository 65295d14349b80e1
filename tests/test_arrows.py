"""Who may import whom, and what must start without the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import tinynas

PACKAGE = Path(tinynas.__file__).parent
HEAVY = ("torch", "torchvision", "sklearn", "pandas", "optuna", "tflite_micro")

# Anyone may use these, and they use nothing.
FOUNDATION = frozenset({"yaml_file", "tinynas", "errors", "paths", "validation"})
CORE = frozenset({"graph", "space", "cost", "budget"})
BELOW_THE_PIPELINE = CORE | {
    "config",
    "console",
    "data",
    "deploy",
    "report",
    "run",
    "search",
    "shrink",
    "supernet",
    "target",
    "task",
}
# What the modules of each package may import beside their own and FOUNDATION.
ALLOWED: dict[str, frozenset[str]] = {
    "graph": frozenset(),
    "space": frozenset({"graph"}),
    "cost": frozenset({"graph", "space", "budget"}),
    "budget": frozenset({"cost"}),  # cost/device.py only: chips bound what can be asked for
    "task": CORE,
    "infeasible": CORE | {"task"},
    "shrink": CORE | {"infeasible", "task"},
    "lut": CORE,
    "run": frozenset(),
    "data": frozenset(),
    "supernet": frozenset({"graph", "space", "data"}),
    "search": CORE | {"run", "supernet"},
    "config": CORE | {"search", "shrink", "supernet"},
    "target": CORE | {"config", "task"},
    "deploy": CORE | {"supernet"},
    "report": CORE | {"data", "deploy", "lut", "run", "search", "supernet", "target"},
    "console": CORE | {"data", "report", "search", "shrink", "supernet", "target"},
    "pipeline": BELOW_THE_PIPELINE,
    "reopen": BELOW_THE_PIPELINE | {"pipeline"},
    "api": BELOW_THE_PIPELINE | {"reopen"},
    "cli_options": frozenset(),
    "cli_lut": CORE | {"cli_options", "lut", "report"},
    "cli_search": frozenset({"cli_options", "config", "console", "pipeline", "run", "target"}),
    "cli_shrink": frozenset(
        {"cli_options", "config", "console", "report", "shrink", "space", "target", "task"}
    ),
    "cli": CORE
    | {"cli_lut", "cli_options", "cli_search", "cli_shrink", "config", "deploy", "report"}
    | {"target"},
    "__main__": frozenset({"cli"}),
}
LIGHT = (
    *("graph", "space", "cost", "budget", "task", "infeasible", "shrink", "config", "target"),
    *("lut", "run", "cli_lut", "cli_search", "cli_shrink", "cli", "api"),
)


def part_of(module: str) -> str:
    """`space` of `tinynas.space.spec`; `tinynas` of the package itself."""
    names = module.split(".")
    return names[1] if len(names) > 1 else names[0]


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package by its dotted name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(names[:-1] if names[-1] == "__init__" else names), path


def imports(path: Path) -> Iterator[str]:
    """Modules of tinynas that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if part_root(alias.name) == "tinynas")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = node.module or ""
            if module == "tinynas":
                known = {part_of(name) for name, _ in modules()}
                yield from (f"tinynas.{a.name}" for a in node.names if a.name in known)
            elif part_root(module) == "tinynas":
                yield module


def part_root(module: str) -> str:
    return module.split(".")[0]


@cache
def edges() -> frozenset[tuple[str, str]]:
    """(importing part, imported part) of all imports between parts."""
    found = {
        (part_of(module), part_of(imported))
        for module, path in modules()
        for imported in imports(path)
    }
    return frozenset(edge for edge in found if edge[0] != edge[1] and edge[1] not in FOUNDATION)


def test_every_part_has_its_place() -> None:
    parts = {part_of(module) for module, _ in modules()} - FOUNDATION
    assert parts <= ALLOWED.keys(), "say in ALLOWED what the new part may import"


def test_parts_import_only_what_they_may() -> None:
    wrong = [
        f"{user} -> {used}"
        for user, used in sorted(edges())
        if user not in FOUNDATION and used not in ALLOWED[user]
    ]
    assert wrong == []


def test_the_foundation_imports_nothing_of_tinynas() -> None:
    assert [used for user, used in edges() if user in ("errors", "paths")] == []


def test_only_budget_and_cost_import_each_other() -> None:
    both_ways = {frozenset(edge) for edge in edges() if edge[::-1] in edges()}
    assert both_ways <= {frozenset({"budget", "cost"})}


def test_budget_needs_nothing_of_cost_but_its_devices() -> None:
    of_cost = {name for name in imports(PACKAGE / "budget.py") if part_of(name) == "cost"}
    assert of_cost <= {"tinynas.cost.device"}
    assert not any(part_of(n) == "budget" for n in imports(PACKAGE / "cost" / "device.py"))


@pytest.mark.parametrize("part", LIGHT)
def test_the_light_parts_start_without_the_heavy_libraries(part: str) -> None:
    names = [module for module, _ in modules() if part_of(module) == part]
    if not names:
        pytest.skip(f"there is no tinynas.{part}")
    code = "import importlib, sys\n"
    code += f"for name in {names!r}:\n    importlib.import_module(name)\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
