"""Reading a YAML file; what YAML would read otherwise than it looks is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mgmt_ray.base import MgmtError, first_line, placeholder_fault

OTHER_BASE = re.compile(r"[-+]?(?:0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)")
"""Numbers that YAML 1.1 reads with another base: 012 is 10, and 1:30 is 90."""

NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def check_study_file(path: Path) -> None:
    """Raise MgmtError if there is no such study file."""
    if not path.is_file():
        raise MgmtError(f"{path}: no such study file. Shipped ones are in jobs/studies/.")


def read_yaml(path: Path) -> Any:
    r"""Read a YAML file in UTF-8, or in UTF-16 with its mark.

    Raises:
        MgmtError: the file cannot be read or is not YAML, a mapping has a key twice, or a number
            starts with a zero; names the lines.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "study.yaml")
    ...     _ = path.write_text("training:\n  epochs: 30\n")
    ...     read_yaml(path)
    {'training': {'epochs': 30}}
    """
    try:
        content = path.read_bytes()
        if fault := placeholder_fault(content):
            raise MgmtError(f"{path}: is no YAML but {fault[0]}. {fault[1]}.")
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if faults := list(_faults(node, (), set())):
            raise MgmtError(f"{path}: {'; '.join(faults)}.")
        return loader.construct_document(node) if node else None
    except OSError as error:
        raise MgmtError(f"{path}: cannot be read ({error.strerror}). Give another file.") from error
    except yaml.YAMLError as error:
        raise MgmtError(f"{path}: {_describe(error)}.") from error


def _faults(node: yaml.Node | None, keys: tuple[str, ...], seen: set[int]) -> Iterator[str]:
    """Yield what is wrong in a node and below; an anchor's content is checked once."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            line = key.start_mark.line + 1
            if name in lines:
                path = ".".join((*keys, name))
                yield f"{path}: is there twice, in lines {lines[name]} and {line}; keep one"
            lines.setdefault(name, line)
            yield from _faults(key, (*keys, name), seen)
            yield from _faults(value, (*keys, name), seen)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _faults(item, (*keys, str(number)), seen)
    elif node.tag in NUMBER_TAGS and OTHER_BASE.fullmatch(node.value):
        yield (
            f"{'.'.join(keys)}: {node.value} in line {node.start_mark.line + 1} is no decimal "
            f"number in YAML; write an id in quotes, like '{node.value}', and a number without "
            "leading zeros or colons"
        )


def _describe(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"is not YAML ({first_line(error)}). Save it as text in UTF-8"
    where = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    if error.problem and r"'\t'" in error.problem:
        return f"{where}: a tab; is not YAML. Indent with spaces"
    return f"{where}: is not YAML ({error.problem}). Fix this line"
