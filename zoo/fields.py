"""The texts under the fields of an options dataclass, for the help of the command-line options of the same names."""

import ast
import inspect
import itertools
import textwrap


def texts(options: type) -> dict[str, str]:
    """Field name -> the string that stands under it in the class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0].body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
