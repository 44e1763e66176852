"""The plan of the house holds: imports go down, never up or across."""

import ast
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "remotesam_geo"
PLAN = tomllib.loads((ROOT / "tests" / "floors.toml").read_text("utf-8"))
FLOOR = {room: level for level, floor in enumerate(PLAN["floor"]) for room in floor["rooms"]}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    """The room that a dotted module belongs to: the first name below the package."""
    return parts[1] if len(parts) > 1 else ""


def imports(source: str, module: tuple[str, ...], is_package: bool) -> set[tuple[str, ...]]:
    """Every dotted name that `source` imports, at the top or inside functions."""
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = tuple((node.module or "").split(".")) if node.module else ()
            if node.level:
                up = node.level - (1 if is_package else 0)
                base = (*module[: len(module) - up], *base)
            found |= {(*base, alias.name) for alias in node.names}
    return found


def breaches(module: tuple[str, ...], names: set[tuple[str, ...]]) -> list[str]:
    room, found = room_of(module), []
    for name in sorted(names):
        if name[0] == "remotesam_geo":
            other = room_of(name)
            if other not in FLOOR or other == room or not room:
                continue
            if FLOOR[other] >= FLOOR[room]:
                found.append(f"{'.'.join(module)} imports {'.'.join(name)}")
        elif name[0] in PLAN["forbidden"].get(room, []):
            found.append(f"{'.'.join(module)} imports {name[0]}, which {room} must not know")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    module = path.relative_to(ROOT).with_suffix("").parts
    is_package = module[-1] == "__init__"
    module = module[:-1] if is_package else module
    room = room_of(module)
    assert not room or room in FLOOR, f"{room} stands on no floor: add it to tests/floors.toml"
    assert not breaches(module, imports(path.read_text("utf-8"), module, is_package))


def test_a_breach_is_noticed():
    module = ("remotesam_geo", "model", "network")
    names = imports("def f():\n    from ..mapping import grid\n    import xarray", module, False)
    assert len(breaches(module, names)) == 2
    assert not breaches(module, imports("from ..errors import InputError\nimport torch", module, False))


def test_the_package_imports_light():
    import subprocess
    import sys

    code = "import sys; before = {*sys.modules}; import remotesam_geo; print(*({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    foreign = {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names
    assert foreign == {"remotesam_geo"}


def modules():
    """Every module of the package, by dotted name."""
    found = {}
    for path in FILES:
        name = path.relative_to(ROOT).with_suffix("").parts
        found[name[:-1] if name[-1] == "__init__" else name] = path
    return found


def targets(name, path, known):
    """The modules that a module imports, also inside functions; imports for type checkers do not run."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names = imports(ast.unparse(tree), name, path.stem == "__init__")
    cut = {one if one in known else one[:-1] for one in names}
    return {one for one in cut if one in known and one != name}


def cycles(graph):
    """Groups of modules that import each other, in a circle."""
    reach = {name: set(follow) for name, follow in graph.items()}
    changed = True
    while changed:
        changed = False
        for name, follow in reach.items():
            more = follow.union(*(reach[other] for other in follow)) if follow else follow
            if len(more) > len(follow):
                reach[name], changed = more, True
    return sorted(name for name, follow in reach.items() if name in follow)


def test_no_module_imports_itself_in_a_circle():
    known = modules()
    graph = {
        # a package's __init__ gathers its modules: it is not on their way
        name: {one for one in targets(name, path, known) if known[one].stem != "__init__"}
        for name, path in known.items()
        if path.stem != "__init__"
    }
    assert cycles(graph) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_no_folder_holds_more_than_15_modules():
    sizes = Counter(path.parent for path in FILES if path.stem != "__init__")
    assert {str(folder): size for folder, size in sizes.items() if size > 15} == {}


def test_no_file_name_stands_twice():
    names = Counter(path.stem for path in FILES)
    assert {name for name, count in names.items() if count > 1} == {"__init__"}


def test_no_class_name_stands_twice():
    found = Counter(
        node.name for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in found.items() if count > 1} == set()
