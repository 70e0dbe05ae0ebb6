"""The kubelet's protocols, compiled by protoc when they are needed."""

import functools
import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grpc_tools import protoc

_HERE = Path(__file__).parent


@functools.cache
def compiled(name: str) -> Any:
    """Return the module of the messages in `name`.proto."""
    with TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{_HERE}", f"--python_out={folder}", f"{name}.proto"]
        assert protoc.main(arguments) == 0
        file = Path(folder) / f"{name}_pb2.py"
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module
