"""Opening an exported file: whether it is whole, and what it says of itself."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows
from limbeck.errors import ExportError, FileError

# A file's own sha256, as its metadata hold it (protobuf: key, then tag and length of the value). It is taken with
# these 64 digits as zeros, so that the file alone tells whether it is still what was scored.
SEAL = "limbeck.sha256"
UNSEALED = "0" * 64
_AGAIN = "fetch it again, or export it again"
_SEALED = re.compile(re.escape(SEAL).encode() + rb"\x12\x40([0-9a-f]{64})")


@dataclass(frozen=True)
class Signature:
    """What an exported file says of itself.

    Args:
        classes: names.
        shape: of one input; of a segmenter that of one window.
        use: how it is used.
        windows: how a segmenter is run over a picture; None: the file is a classifier.
    """

    classes: tuple[str, ...]
    shape: tuple[int, ...]
    use: Use
    windows: Windows | None = None


def seal(data: bytes) -> bytes:
    """Write the sha256 of a serialized model, whose metadata hold ``UNSEALED`` under ``SEAL``, into these metadata."""
    mark = SEAL.encode() + b"\x12\x40"
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(mark + UNSEALED.encode(), mark + digest.encode())


def _unchanged(data: bytes) -> bool | None:
    """Whether a file is what was sealed; None if it has no seal."""
    seals = list(_SEALED.finditer(data))
    if not seals:
        return None
    start, end = seals[-1].span(1)
    plain = data[:start] + UNSEALED.encode() + data[end:]
    return hashlib.sha256(plain).hexdigest().encode() == data[start:end]


def open_onnx(file: str | Path, *, threads: int = 2) -> tuple[Any, Signature]:
    """An ONNX Runtime session on the CPU with pinned threads, and what the file says of itself.

    Raises:
        FileError: if the file is missing, damaged, or was changed after it was exported.
        ExportError: if ONNX Runtime is not installed, or the file was not written by limbeck.
    """
    session, metadata, sealed = _session(file, threads)
    return session, _signature(file, session, metadata, sealed=sealed)


def open_any(file: str | Path, *, threads: int = 2) -> Any:
    """A session as of :func:`open_onnx`, of a file that anyone may have written.

    Raises:
        FileError: if the file is missing, damaged, has weights elsewhere, or is one of limbeck's that was changed.
        ExportError: if ONNX Runtime is not installed.
    """
    return _session(file, threads)[0]


def _session(file: str | Path, threads: int) -> tuple[Any, dict[str, str], bool]:
    """A session, the metadata, and whether the file has a seal that holds."""
    try:
        import onnxruntime
    except ImportError:
        raise ExportError("onnxruntime is not installed", cure="pip install 'limbeck[export]'") from None
    try:
        data = Path(file).read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise FileError(f"{file} is missing", cure="check the path of the exported file") from None
    except OSError as error:
        raise FileError(f"{file} can not be read: {error.strerror}") from None
    unchanged = _unchanged(data)
    if unchanged is False:
        raise FileError(f"{file} was changed after it was exported: its checksum differs", cure=_AGAIN)
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    # Weights in another file would be looked for under a folder that can not be: below this very file.
    nowhere = str(Path(file).absolute() / "none")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", nowhere)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        metadata = dict(session.get_modelmeta().custom_metadata_map)
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(f"{file} is not a whole ONNX file ({line[:200]})", cure=_AGAIN) from None
    return session, metadata, bool(unchanged)


def _signature(file: str | Path, session: Any, metadata: dict[str, str], *, sealed: bool) -> Signature:
    """Read the metadata and hold them against the graph: both may have been written by anyone."""
    missing = {"limbeck", "classes", "shape"} - set(metadata)
    if missing or not sealed:
        raise ExportError(
            f"{file} was not exported by limbeck: its metadata lacks {', '.join(sorted(missing)) or SEAL}",
            cure="export the model with limbeck, which writes classes and input size into the file",
        )
    found = _told(metadata)
    takes = {one.name: (one.type, one.shape[1:]) for one in session.get_inputs()}
    gives = {one.name: (one.type, one.shape[1:]) for one in session.get_outputs()}
    if found is None or set(takes) != {"image"} or set(gives) != {"logits"} or not _fits(found, takes, gives):
        raise ExportError(f"{file} says one thing of its classes and input and its graph does another", cure=_AGAIN)
    return found


def _told(metadata: dict[str, str]) -> Signature | None:
    """What the metadata say; None if it can not be."""
    try:
        classes, shape = json.loads(metadata["classes"]), json.loads(metadata["shape"])
    except (ValueError, RecursionError):
        return None
    task = metadata.get("task", "classification")
    if not isinstance(classes, list) or not all(isinstance(one, str) for one in classes):
        return None
    if not isinstance(shape, list) or not all(type(one) is int and one > 0 for one in shape):
        return None
    use = Use.read(metadata, classes)
    windows = Windows.read(metadata, classes, shape) if task == "segmentation" else None
    known = task == "classification" or (windows is not None and use is not None and use.positive is None)
    if use is None or not known or (use.fit == "windows") != (windows is not None):
        return None
    return Signature(tuple(classes), tuple(shape), use, windows)


def _fits(found: Signature, takes: dict[str, Any], gives: dict[str, Any]) -> bool:
    kinds, (source, sink) = {takes["image"][0], gives["logits"][0]}, (takes["image"][1], gives["logits"][1])
    if kinds != {"tensor(float)"}:
        return False
    if found.windows is not None:
        return found.windows.fits(found.shape, source, sink, len(found.classes))
    return bool(source == list(found.shape) and sink == [len(found.classes)])


__all__ = ["SEAL", "UNSEALED", "Signature", "open_any", "open_onnx", "seal"]
