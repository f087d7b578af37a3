"""An ONNX file read as a classifier or segmenter: one input, one output of scores, weights inside; or it is named."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.errors import FileError, ModelError, nearest

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
}
_SCORES = ("tensor(float)", "tensor(double)", "tensor(float16)")
_PASSING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}  # operators that leave values as they are


@dataclass(frozen=True)
class Graph:
    """What an ONNX file says of itself.

    Args:
        path: of the file.
        data: its bytes.
        input: the input's name.
        dtype: of the input, as numpy names it.
        batch: the batch size that it is fixed to; None: any.
        shape: of one input; None where a size is open.
        output: the name of the output of scores.
        width: how many scores, of a sample or of each pixel; None: open.
        ends: the operator that made them.
        metadata: written into the file by who made it.
        parameters: numbers in its weights, statistics of batch norm included.
    """

    path: Path
    data: bytes = field(repr=False)
    input: str
    dtype: str
    batch: int | None
    shape: tuple[int | None, ...]
    output: str
    width: int | None
    ends: str
    metadata: Mapping[str, str]
    parameters: int

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def own(self) -> bool:
        """Whether limbeck exported it: classes are in its metadata, normalization is inside."""
        return {"limbeck", "classes"} <= set(self.metadata)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names in its metadata, if limbeck wrote them."""
        if not self.own:
            return None
        try:
            names = json.loads(self.metadata["classes"])
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise FileError(f"{self.path}: its metadata hold no list of class names", cure="export it again")
        return tuple(names)


def read_graph(path: str | Path, output: str | None = None) -> Graph:
    """Read an ONNX file, and see that it can teach.

    Args:
        path: of the file; its weights must be inside.
        output: the name of the output that holds the scores, where there are several.

    Raises:
        FileError: if it is missing or damaged.
        ModelError: if ONNX Runtime is not installed or can not run an operator, if weights lie in other files, or if
            inputs or outputs are not those of a classifier: each named.

    Example:
        >>> read_graph("missing.onnx")
        Traceback (most recent call last):
        limbeck.errors.FileError: missing.onnx is missing
          cure: check the path of the teacher's file
    """
    path = Path(path)
    try:
        import onnx
        import onnxruntime  # noqa: F401  (named by the error if it is missing)
    except ImportError as error:
        name = error.name or "onnxruntime"
        raise ModelError(
            f"{name} is not installed: {path} can not be run", cure="pip install 'limbeck[export]'"
        ) from None
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise FileError(f"{path} is missing", cure="check the path of the teacher's file") from None
    except OSError as error:
        raise FileError(f"{path} can not be read: {error.strerror}") from None
    try:
        proto = onnx.load_model_from_string(data)
    except Exception:
        raise FileError(f"{path} is not a whole ONNX file", cure="fetch it again, or export it again") from None
    outside = sorted({one for tensor in _tensors(proto.graph) for one in _elsewhere(tensor)})
    if outside:
        raise ModelError(
            f"{path} keeps weights in other files: {', '.join(outside[:3])}",
            cure="save it as one file, with onnx.save(onnx.load(FILE), NEW) beside those files",
        )
    session = open_session(path, data, proto, threads=1)
    source, sink = _input(path, session), _output(path, session, output)
    batch, *shape = source.shape
    return Graph(
        path,
        data,
        source.name,
        DTYPES[source.type],
        batch if isinstance(batch, int) else None,
        tuple(size if isinstance(size, int) else None for size in shape),
        sink.name,
        sink.shape[1] if sink.shape and isinstance(sink.shape[1], int) else None,
        _last(proto.graph, sink.name),
        {one.key: one.value for one in proto.metadata_props},
        sum(math.prod(one.dims) for one in proto.graph.initializer if _weights(one)),
    )


def open_session(path: Path, data: bytes, proto: Any = None, *, threads: int) -> Any:
    """An ONNX Runtime session with pinned threads, on the CPU; on a GPU where ONNX Runtime is built for one.

    Raises:
        FileError: if the file is damaged.
        ModelError: naming an operator that can not be run, and its domain.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    # Weights in another file would be looked for under a folder that can not be: below this very file.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.absolute() / "none")
    )
    known = onnxruntime.get_available_providers()
    providers = [one for one in ("CUDAExecutionProvider", "CPUExecutionProvider") if one in known]
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:
        unknown = _operator(str(error), proto)
        if unknown:
            raise ModelError(
                f"{path} needs the operator {unknown}, which ONNX Runtime {onnxruntime.__version__} can not run",
                cure="export the model with standard operators (domain ai.onnx), or with an older opset",
            ) from None
        raise FileError(
            f"{path} is not a whole ONNX file ({one_line(error)})", cure="fetch it again, or export it again"
        ) from None


def one_line(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without its codes."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)[:200]


def _operator(text: str, proto: Any) -> str | None:
    """The operator that an error of ONNX Runtime is about, with its domain."""
    found = re.search(r"(?:No Op registered for|Could not find an implementation for) (\w+)", text)
    found = found or re.search(r":(\w+)\([-\d]+\) is not a registered function/op", text)
    if not found:
        return None
    domains = {node.domain for node in _nodes(proto.graph) if node.op_type == found[1]} if proto is not None else set()
    return f"'{found[1]}' of domain '{next(iter(domains), '') or 'ai.onnx'}'"


def _input(path: Path, session: Any) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        listed = ", ".join(f"'{one.name}'" for one in inputs) or "none"
        raise ModelError(
            f"{path} has {len(inputs)} inputs ({listed}), expected one: a batch of samples",
            cure="export the model with the samples as its only input",
        )
    if inputs[0].type not in DTYPES or not inputs[0].shape:
        raise ModelError(
            f"{path}: its input '{inputs[0].name}' is {inputs[0].type} of shape {inputs[0].shape}, expected a batch of "
            f"{', '.join(DTYPES.values())}",
            cure="export the model with float32 inputs [batch, …]",
        )
    return inputs[0]


def _output(path: Path, session: Any, wanted: str | None) -> Any:
    outputs = {one.name: one for one in session.get_outputs()}
    listed = ", ".join(f"'{one.name}' {one.type} {one.shape or ''}".strip() for one in outputs.values())
    if wanted is not None and wanted not in outputs:
        raise ModelError(f"{path} has no output '{wanted}'{nearest(wanted, outputs)}", cure=f"it has {listed}")
    if wanted is None and len(outputs) > 1:
        raise ModelError(
            f"{path} has {len(outputs)} outputs: {listed}",
            cure="name the one that holds a score for each class: teacher.output, or OnnxTeacher(…, output=NAME)",
        )
    found = outputs[wanted] if wanted is not None else next(iter(outputs.values()))
    if not found.type.startswith("tensor"):
        raise ModelError(
            f"{path}: its output '{found.name}' is {found.type}, a sequence or map (skl2onnx's ZipMap), not a tensor",
            cure="export it with options={'zipmap': False}",
        )
    if found.type not in _SCORES:
        raise ModelError(
            f"{path}: its output '{found.name}' is {found.type}, labels and not scores; its outputs are {listed}",
            cure="name the output that holds a score for each class: teacher.output",
        )
    if found.shape and len(found.shape) not in (2, 4):
        raise ModelError(
            f"{path}: its output '{found.name}' has shape {found.shape}, expected [batch, classes], or of a segmenter "
            "[batch, classes, height, width]",
            cure="export the model with one logit for each class of a sample, or of each pixel",
        )
    return found


def _last(graph: Any, output: str) -> str:
    """The operator that made an output's values."""
    made = {name: node for node in graph.node for name in node.output}
    node = made.get(output)
    while node is not None and node.op_type in _PASSING and node.input:
        node = made.get(node.input[0])
    return "" if node is None else str(node.op_type)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                yield from _tensors(inner)


def _elsewhere(tensor: Any) -> list[str]:
    from onnx import TensorProto

    if tensor.data_location != TensorProto.EXTERNAL:
        return []
    return [one.value for one in tensor.external_data if one.key == "location"] or ["?"]


def _weights(tensor: Any) -> bool:
    """Whether an initializer holds weights: floats, or bytes of a quantized model, and no shapes or indices."""
    from onnx import TensorProto

    return tensor.data_type not in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING)
