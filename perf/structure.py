"""The structure of the code in numbers: modules, arrows, floors, conditionals on the kind of work.

python perf/structure.py [ROOT] prints a table for the packages below ROOT, by default this repository.
The source is parsed, never imported. An arrow is an import of one module by another, inside functions too
("at the top": outside functions only); imports for type checkers alone and modules named only in strings do
not count. The floors are the modules on the longest chain of arrows. An ``__init__`` does not count as a
module, but counts as a floor if it imports others. A package's column has the arrows that start in it, and
the floors of a chain within it.
"""

import ast
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGES = ("core", "storage", "orchestrator")
ON_KIND = (
    r"\.is_module|masks_outputs|traits\.|baseline is (not )?None|is_given|\bkind (==|!=) |\.kind (not )?in "
)
Graph = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Module:
    """A source file. name: dotted; for an ``__init__``, that of its package."""

    name: str
    path: Path
    source: str

    @property
    def package(self) -> str:
        """The first part of the name."""
        return self.name.partition(".")[0]

    @property
    def is_init(self) -> bool:
        """Whether this is a package's ``__init__``."""
        return self.path.name == "__init__.py"

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the file."""
        return self.source.splitlines()

    def imports(self, known: frozenset[str], *, top_only: bool) -> frozenset[str]:
        """Return the other modules that this one imports, of those ``known``."""
        named = {
            name for node in _nodes(ast.parse(self.source), top_only=top_only) for name in _names(node, known)
        }
        return frozenset(named & known - {self.name})


def _nodes(tree: ast.AST, *, top_only: bool) -> Iterator[ast.AST]:
    """Yield the nodes below; with ``top_only``, only those executed on import."""
    for node in ast.iter_child_nodes(tree):
        is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_never = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if not (is_never or (top_only and is_later)):
            yield node
            yield from _nodes(node, top_only=top_only)


def _names(node: ast.AST, known: frozenset[str]) -> Iterator[str]:
    """Yield the modules that an import names: for ``from a import x``, a.x if it is a module, else a."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            yield name if name in known else node.module


def read_modules(root: Path) -> list[Module]:
    """Return the modules of the packages below ``root``, including each ``__init__``."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    parts = (path.relative_to(root).with_suffix("").parts for path in paths)
    names = (".".join(part for part in one if part != "__init__") for one in parts)
    return [Module(name, path, path.read_text()) for name, path in zip(names, paths, strict=True)]


def graph_of(modules: list[Module], *, top_only: bool = False) -> dict[str, frozenset[str]]:
    """Return the imports of each module; packages that import nothing are left out."""
    known = frozenset(module.name for module in modules)
    found = {module.name: module.imports(known, top_only=top_only) for module in modules}
    idle = {module.name for module in modules if module.is_init and not found[module.name]}
    return {name: others - idle for name, others in found.items() if name not in idle}


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest path, importers first. Raises graphlib.CycleError."""
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter({name: sorted(graph[name]) for name in sorted(graph)}).static_order():
        below = (chains[other] for other in sorted(graph[name]))
        chains[name] = [name, *max(below, key=len, default=[])]
    return max(chains.values(), key=len, default=[])


def within(graph: Graph, package: str) -> dict[str, frozenset[str]]:
    """Return the subgraph of one package."""
    inside = {name for name in graph if name.partition(".")[0] == package}
    return {name: others & inside for name, others in graph.items() if name in inside}


def _count(graph: Graph, package: str | None) -> int:
    return sum(len(others) for name, others in graph.items() if package in (None, name.partition(".")[0]))


def _rows(modules: list[Module], all_arrows: Graph, top_arrows: Graph, package: str | None) -> dict[str, str]:
    """Return the column of one package, or of all for None."""
    own = [module for module in modules if package in (None, module.package)]
    files = [module for module in own if not module.is_init]
    sizes = [len(module.lines) for module in files]
    largest = max(files, key=lambda module: len(module.lines))
    importers = Counter(other for others in all_arrows.values() for other in others)
    inside = all_arrows if package is None else within(all_arrows, package)
    return {
        "modules (without `__init__`)": str(len(files)),
        "lines of the median module": f"{statistics.median(sizes):g}",
        "lines of the largest module": f"{max(sizes)} ({largest.name})",
        "lines": f"{sum(len(module.lines) for module in own):,}",
        "lines that are not blank": f"{sum(bool(line.strip()) for module in own for line in module.lines):,}",
        "arrows": str(_count(all_arrows, package)),
        "arrows at the top of modules": str(_count(top_arrows, package)),
        "floors": str(len(longest_chain(inside))),
        "modules with one importer": str(sum(importers[module.name] == 1 for module in files)),
        "conditionals on the kind": str(sum(conditionals(own).values())),
    }


def conditionals(modules: list[Module]) -> Counter[str]:
    """Count the lines of core and orchestrator that match ``ON_KIND``, by folder."""
    return Counter(
        (module.name if module.is_init else module.name.rpartition(".")[0]).replace(".", "/")
        for module in modules
        for line in module.lines
        if module.package in ("core", "orchestrator") and re.search(ON_KIND, line)
    )


def main(root: Path) -> None:
    """Print the table, the longest chain, and the conditionals on the kind by folder."""
    modules = read_modules(root)
    all_arrows, top_arrows = graph_of(modules), graph_of(modules, top_only=True)
    columns = [_rows(modules, all_arrows, top_arrows, package) for package in (*PACKAGES, None)]
    print(f"| | {' | '.join((*PACKAGES, 'all'))} |")
    print("| --- | --- | --- | --- | --- |")
    for key in columns[0]:
        print(f"| {key} | {' | '.join(column[key] for column in columns)} |")
    print(f"\nLongest chain: {' -> '.join(longest_chain(all_arrows))}")
    print(f"\nConditionals on the kind, lines that match `{ON_KIND}`:")
    for folder, number in sorted(conditionals(modules).items()):
        print(f"- {folder}/: {number}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
