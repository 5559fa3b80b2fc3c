"""Programs from `torch.export`: a graph of operators and its tensors, checked to be no more than that.

torch's own reader takes seconds and 150 MB to import, with its compiler and sympy, so only what uses it does.
"""

import ast
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload

from inference_service.model import ModelUnavailable
from inference_service.weights import first_line, refuse_packed

_PROGRAM = "models/model.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_TENSORS = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]+")
_RECORDS = frozenset({_PROGRAM, _SAMPLE_INPUTS, *_CONFIGS, "archive_format", "archive_version", "byteorder", "version"})
_OWN_FOLDER = ".data/"
"""Where the reader keeps its version and a serial number."""

_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_ARITHMETIC = re.compile(
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge)|torch\.sym_(int|float|min|max|not)"
)
_CONTAINERS = frozenset({"builtins.tuple", "builtins.list", "builtins.dict"})
_SYMBOL = re.compile(r"[a-z]+[0-9]+")
_SIZE_FUNCTIONS = frozenset({"Add", "Mul", "Rational", "Mod", "FloorDiv", "CleanDiv", "PythonMod"})
_SIZE_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_MAX_FORMULA_TERMS = 40
"""Of one size. Those of a DenseNet for pictures of any size have up to 23; for some of so many sympy takes seconds."""

_MAX_FORMULA_CHARACTERS = 4096


def read_program(path: Path) -> nn.Module:
    """Return the network of a `.pt2` file.

    The format allows pickles, compiled libraries, Python expressions and any function of torch, and
    torch runs them. A file with anything but tensors and operators on tensors is refused before torch
    loads it. Its bytes are read once, by torch's own reader: what is checked is what is loaded.

    Raises:
        ModelUnavailable: the file is damaged, of another version, or carries code.
    """
    try:
        archive = path.read_bytes()
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror}") from None
    try:
        refuse_packed(io.BytesIO(archive), path)
        _refuse_code(archive, path)
        from torch.export.pt2_archive._package import load_pt2

        # `torch.export.load` goes on with an older format, which is all pickles, where this one fails.
        program = load_pt2(io.BytesIO(archive)).exported_programs["model"]
        return program.module(check_guards=False)  # guards are Python code in the file
    except ModelUnavailable:
        raise
    except Exception as error:
        # The reader has no errors of its own: a damaged archive raises nearly anything.
        raise ModelUnavailable(f"{path} is not a program that this torch can read: {first_line(error)}") from None


def _refuse_code(archive: bytes, path: Path) -> None:
    for found in _code(archive):
        raise ModelUnavailable(f"{path} is more than a graph and its tensors: it has {found}")


def _code(archive: bytes) -> Iterator[str]:
    """Name what torch would run, or might."""
    from torch.export.pt2_archive import PT2ArchiveReader

    with PT2ArchiveReader(io.BytesIO(archive)) as reader:
        for name in reader.get_file_names():
            if name not in _RECORDS and not name.startswith(_OWN_FOLDER) and not _TENSORS.fullmatch(name):
                yield name
        for name in _CONFIGS:
            for tensor, payload in json.loads(reader.read_string(name))["config"].items():
                record = f"{name.rpartition('/')[0]}/{payload['path_name']}"
                if payload["use_pickle"] is not False or not _TENSORS.fullmatch(record):
                    yield f"a pickle for {tensor}"
        try:
            torch.load(io.BytesIO(reader.read_bytes(_SAMPLE_INPUTS)), weights_only=True)
        except UnpicklingError:
            yield "a pickle for its sample inputs"
        yield from _calls(json.loads(reader.read_string(_PROGRAM)))


def _calls(node: Any) -> Iterator[str]:
    """Name each function and each formula in a program, at any depth, that is not known to be harmless."""
    if isinstance(node, list):
        for item in node:
            yield from _calls(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            # `guards_code` is not run, and the metadata tells where the model was written.
            if key in ("target", "as_operator") and isinstance(value, str):
                if not _is_operator(value):
                    yield f"the function {value}"
            elif key == "expr_str":
                if not _is_size(value):
                    yield f"the expression {value}"
            elif key in ("in_spec", "out_spec") and isinstance(value, str):
                if not _is_plain(json.loads(value)[1]):
                    yield "inputs or outputs that are more than tuples, lists and dicts of tensors"
            elif key not in ("metadata", "guards_code"):
                yield from _calls(value)


def _is_operator(target: str) -> bool:
    if match := _ATEN.fullmatch(target):
        name, overload = match.groups()
        # `from_file` maps a file of this machine, and may create it.
        return name != "from_file" and isinstance(
            getattr(getattr(torch.ops.aten, name, None), overload, None), OpOverload
        )
    return _ARITHMETIC.fullmatch(target) is not None


def _is_plain(structure: Any) -> bool:
    """Tell whether inputs or outputs are tensors in plain containers: for others torch imports modules by name."""
    if structure["type"] is None:
        return True
    of_keys = structure["context"]
    has_keys_only = isinstance(of_keys, str) and "{" not in of_keys  # an object of JSON may name a class
    return structure["type"] in _CONTAINERS and has_keys_only and all(map(_is_plain, structure["children_spec"]))


def _is_size(formula: str) -> bool:
    """Tell whether a formula is arithmetic on sizes, and little of it: sympy evaluates it as Python."""
    if len(formula) > _MAX_FORMULA_CHARACTERS:
        return False
    try:
        return _terms(ast.parse(formula, mode="eval").body) <= _MAX_FORMULA_TERMS
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what Python's parser raises, too
        return False


def _terms(node: ast.expr) -> int:
    """Return how many numbers and symbols a formula is made of, a power counted as its factors.

    Raises:
        ValueError: it is something else than arithmetic.
    """
    match node:
        case ast.Constant(int()):
            return 1
        case ast.Name(name) if re.fullmatch("[su][0-9]+", name):  # sympy has others of its own
            return 1
        case ast.Call(ast.Name("Symbol"), [ast.Constant(str(name))], assumptions) if _SYMBOL.fullmatch(name):
            if all(isinstance(assumption.value, ast.Constant) for assumption in assumptions):
                return 1
        case ast.Call(ast.Name("Integer"), [number], []):
            return _terms(number)
        case ast.Call(ast.Name("Pow"), [base, ast.Call(ast.Name("Integer"), [exponent], [])], []):
            match exponent:
                case ast.Constant(int(times)) | ast.UnaryOp(ast.USub(), ast.Constant(int(times))):
                    return _terms(base) * max(1, times)
        case ast.Call(ast.Name("Max" | "Min"), arguments, []):
            return len(arguments) * sum(map(_terms, arguments))  # each is compared with each
        case ast.Call(ast.Name(name), arguments, []) if name in _SIZE_FUNCTIONS:
            return sum(map(_terms, arguments))
        case ast.UnaryOp(ast.UAdd() | ast.USub(), operand):
            return _terms(operand)
        case ast.BinOp(left, operator, right) if isinstance(operator, _SIZE_OPERATORS):
            return _terms(left) + _terms(right)
    raise ValueError("no arithmetic")
