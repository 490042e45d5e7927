"""Reading study and site files strictly: a typo in a file that costs GPU days must be an error."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from slurm.errors import SlurmError

Options = TypeVar("Options")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars. PyYAML follows 1.1, which reads the language `no` as false and the time 12:00:00 as 43200."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 (PyYAML's own way of holding resolvers)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+)", "-+.0123456789"),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key, _ in node.value:
        if key.value in seen and key.value != "<<":
            raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`. Raises SlurmError for a missing file, broken YAML or a key that stands twice."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise SlurmError(f"Study file {str(path)!r} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise SlurmError(f"Study file {str(path)!r} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise SlurmError(f"Study file {str(path)!r} holds no mapping", valid="name: ..., phases: {...}")
    return data


def build(kind: type[Options], data: Any, where: str) -> Options:
    """Make dataclass `kind` of a mapping; unknown and missing keys and wrong types raise SlurmError naming `where`."""
    options = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(data, Mapping):
        raise SlurmError(f"{where} is {data!r}", valid=f"a mapping with the keys {', '.join(options)}")
    for key, value in data.items():
        if key not in options:
            raise SlurmError(f"{where} has the unknown key {key!r}", valid=", ".join(options))
        check_type(value, options[key].type, f"{where}: {key}")
    for name, option in options.items():
        if name not in data and option.default is MISSING and option.default_factory is MISSING:
            raise SlurmError(f"{where} has no {name!r}", remedy=f"add the key {name!r}")
    return kind(**data)


_TYPES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}


def check_type(value: Any, expected: Any, where: str) -> None:
    """Raise SlurmError unless `value` has the plain type `expected` (others are checked where they are used)."""
    names = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "a mapping",
    }
    if expected not in names:
        return
    fits = isinstance(value, (int, float) if expected is float else expected)
    if not fits or (isinstance(value, bool) and expected is not bool):
        raise SlurmError(f"{where} is {value!r}", valid=_TYPES[expected])
