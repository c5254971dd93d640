"""A twin that shared code with the driver it tests would agree with its mistakes."""

import ast
from pathlib import Path

import drivers.emulated

TESTED = ("drivers.cards", "drivers.readers", "drivers.felica")


def test_no_twin_imports_the_driver_it_tests() -> None:
    files = sorted(Path(drivers.emulated.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith(TESTED)], file.name
