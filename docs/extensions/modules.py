"""The directive ``modules``: the reference of modules by name, and of (other) modules in a package by ``package.*``.

What stands in it are the docstrings of a module, in the order of its lines, without the public names of elman, which
have a page of their own. A module that is added to a package appears by itself.
"""

from importlib import import_module
from pkgutil import iter_modules

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import elman


class Modules(SphinxDirective):
    """Used within ``eval-rst``, as autodoc writes reStructuredText."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """A section a module."""
        lines: list[str] = []
        names = [name for pattern in self.arguments[0].split() for name in _modules(pattern)]
        for name in dict.fromkeys(names):
            public = [each for each, home in elman._HOME.items() if _home(each, home) == name]
            lines += [name, "=" * len(name), "", f".. automodule:: {name}", "   :members:", "   :ignore-module-all:"]
            lines += [f"   :exclude-members: {', '.join(public)}"] if public else []
            lines += [""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _modules(pattern: str) -> list[str]:
    package = pattern.removesuffix(".*")
    if package == pattern:
        return [pattern]
    found = iter_modules(import_module(package).__path__)
    return [f"{package}.{module.name}" for module in found if not module.name.startswith("_")]


def _home(name: str, home: str) -> str:
    """The module that defines a public name of elman, which may be imported from another."""
    return getattr(import_module(home), name).__module__


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True}
