"""The page that leads from each equation of the paper to the code that computes it.

The map is read off the docstrings and the claims, which name equations by number.
``equations.yaml`` lists the paper's numbered equations.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from stochrestore.book import claims

_MENTION = re.compile(r"\bEqs?\. ?(\d+(?:(?:–|-|, | and )\d+)*)")


class Equation(BaseModel):
    """A numbered equation of the paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    where: str
    says: str
    tex: str


@cache
def paper() -> dict[int, Equation]:
    """The paper's equations, by number."""
    text = resources.files("stochrestore.book").joinpath("equations.yaml").read_text("utf-8")
    found = TypeAdapter(list[Equation]).validate_python(yaml.safe_load(text))
    return {equation.number: equation for equation in found}


def mentioned(text: str) -> set[int]:
    """The numbers of the equations that a text names: ``Eq. 7``, ``Eq. 2–4``, ``Eq. 7 and 5``."""
    numbers: set[int] = set()
    for match in _MENTION.finditer(text):
        for part in re.split(r", | and ", match[1]):
            first, _, last = part.replace("-", "–").partition("–")
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


@cache
def functions() -> dict[str, set[int]]:
    """The equations that the docstring of each public function, class or module names.

    A module has only those equations that none of its functions and classes names. Figures are
    left out, since they draw what others compute.

    Returns:
        The numbers of the equations by dotted name.
    """
    root = Path(__file__).parents[1]
    found: dict[str, set[int]] = {}
    for path in sorted(root.rglob("*.py")):
        module = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        if module == __name__ or ".figures." in module:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        named = {name: mentioned(text) for name, text in _docstrings(tree, module)}
        inside: set[int] = set().union(*named.values())
        named[module] = mentioned(ast.get_docstring(tree) or "") - inside
        found |= {name: numbers for name, numbers in named.items() if numbers}
    return found


def _docstrings(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            name = f"{prefix}.{child.name}"
            yield name, ast.get_docstring(child) or ""
            yield from _docstrings(child, name) if isinstance(child, ast.ClassDef) else ()


def claims_about(number: int) -> list[claims.Claim]:
    """Claims that test an equation."""
    every = claims.registry().values()
    return [c for c in every if number in mentioned(f"{c.where}. {c.statement}")]


def markdown(titles: Mapping[str, str]) -> str:
    """The map as a page of the book, with a section for each equation.

    Args:
        titles: title by name of those notebooks that have a page.
    """
    parts = [
        "# From equations to code",
        "Each numbered equation of the paper, the functions that compute it, and the claims that "
        "test it. The list is read off the docstrings. In the [library](../api.md), the number of "
        "an equation is a link to this page.",
    ]
    for number, equation in paper().items():
        parts += [
            f"(eq-{number})=\n## Eq. {number}: {equation.says}",
            f"$$\n{equation.tex}\n$$",
            "\n".join(_lines(number, equation, titles)),
        ]
    return "\n\n".join(parts) + "\n"


def _lines(number: int, equation: Equation, titles: Mapping[str, str]) -> Iterable[str]:
    yield f"- Paper: {equation.where}"
    named = sorted(name for name, numbers in functions().items() if number in numbers)
    if named:
        shown = _short_names(named)
        yield "- Library: " + ", ".join(f"{{py:obj}}`{shown[name]} <{name}>`" for name in named)
    for claim in claims_about(number):
        title = titles.get(claim.notebook, claim.notebook)
        chapter = f"[{title}]({claim.notebook}.ipynb)" if claim.notebook in titles else title
        yield f"- Claim `{claim.id}`, {chapter}: {claim.statement}"


def _short_names(named: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted name; the last two where others end with the same one."""
    last = Counter(name.rpartition(".")[2] for name in named)
    return {
        name: ".".join(name.split(".")[-1 if last[name.rpartition(".")[2]] == 1 else -2 :])
        for name in named
    }
