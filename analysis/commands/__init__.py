"""`boli analyze ...`: every module of this folder that has `register(app)` adds its sub-command."""

import importlib
import pkgutil

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What adapters learned, and why one helps another.")


@app.callback()
def _root() -> None:
    """What adapters learned, and why one helps another language."""


for _module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
    _register = getattr(importlib.import_module(f"{__name__}.{_module}"), "register", None)
    if _register is not None:
        _register(app)
