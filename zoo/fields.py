"""The texts under the fields of an options dataclass, for the help of the command-line options of the same names."""

import ast
import inspect
import itertools
import textwrap


def texts(options: type) -> dict[str, str]:
    """Field name -> the string that stands under it in the class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(definition.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = inspect.cleandoc(words)
    return found
