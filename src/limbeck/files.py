"""The one writer: every file that limbeck leaves behind is written here, whole or not at all; ``slots`` aside.

A file is written to a temporary name in the same folder, flushed to disk, renamed over the old one, and the folder is
flushed too where the platform can do that. So a killed process leaves the old file or the new one, never a part.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from limbeck.errors import FileError

_CHUNK = 1 << 20
_STRAY = ".part"  # the end of a temporary file's name
_silent = False


def write_nothing(value: bool) -> None:
    """Whether this process writes nothing, because another one with the same work does; False puts it back.

    Example:
        >>> write_nothing(True)
        >>> write_bytes("a.txt", b"lost").exists()
        False
        >>> write_nothing(False)
    """
    global _silent
    _silent = value


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``path``, whole or not at all.

    Raises:
        FileError: if the folder can not be written or the disk is full; an old file then is left as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bytes(Path(folder) / "a" / "b.txt", b"kept").read_bytes()
        b'kept'
    """
    return _replace(Path(path), lambda file: file.write(data))


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8, whole or not at all; see :func:`write_bytes`."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as indented JSON, whole or not at all. NaN and Inf become null: JSON has no word for them."""
    return write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        FileError: if it is missing, unreadable, or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path} is missing", cure="check the path of the run folder") from None
    except OSError as error:
        raise FileError(f"{path} can not be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileError(
            f"{path} is not valid JSON ({error})", cure="it was changed or cut off: restore it or run again"
        ) from None


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write tensors as one safetensors file, whole or not at all.

    Tensors are stored contiguous, on the CPU; those that share memory are stored once each under their own name.
    """
    from safetensors.torch import save

    own = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    return write_bytes(path, save(own, metadata=dict(metadata) if metadata else None))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors and its metadata.

    Raises:
        FileError: if it is missing, cut off, or its header lies.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    try:
        data = path.read_bytes()
        tensors = load(data)
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
    except FileNotFoundError:
        raise FileError(f"{path} is missing") from None
    except OSError as error:
        raise FileError(f"{path} can not be read: {error.strerror}") from None
    except (SafetensorError, ValueError, KeyError, struct.error) as error:
        raise FileError(
            f"{path} is not a whole safetensors file ({error})",
            cure="it was changed or cut off: fetch or make it again",
        ) from None
    return tensors, header.get("__metadata__", {})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or from ``.pt``/``.pth`` with ``weights_only=True``.

    A foreign checkpoint that holds its weights under ``state_dict`` or ``model`` is opened one level deep.

    Raises:
        FileError: if the file is missing, damaged, or needs code to be run to be read.
    """
    path = Path(path)
    if path.suffix not in {".pt", ".pth"}:
        return read_tensors(path)[0]
    if not path.is_file():
        raise FileError(f"{path} is missing")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise FileError(
            f"{path} can not be read as plain weights ({(str(error).splitlines() or [type(error).__name__])[0]})",
            cure="save only the state_dict, best with safetensors; limbeck never unpickles code",
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping) or not all(isinstance(item, Tensor) for item in value.values()):
        raise FileError(f"{path} holds no state dict (names to tensors)", cure="save model.state_dict()")
    return dict(value)


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise FileError(f"{path} can not be read: {error.strerror}") from None
    return digest.hexdigest()


def describe(path: str | Path) -> dict[str, Any]:
    """Size and sha256 of a file, as manifests list it."""
    return {"bytes": Path(path).stat().st_size, "sha256": sha256(path)}


def remove_file(path: str | Path) -> None:
    """Remove a file that is not needed any more; one that is not there, or can not be removed, is left."""
    if not _silent:
        with suppress(OSError):
            Path(path).unlink()


def remove_strays(folder: str | Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    if _silent:
        return
    for path in Path(folder).glob(f".*{_STRAY}"):
        with suppress(OSError):
            path.unlink()


def copy_folder(folder: str | Path, to: str | Path, *, last: str) -> None:
    """Copy the files of a folder, each whole; the file called ``last`` comes last, as the mark that all are there."""
    folder, to = Path(folder), Path(to)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != last)
    names = [name for name in names if not name.endswith(_STRAY)]
    for name in [*names, last]:
        write_bytes(to / name, (folder / name).read_bytes())


class Journal:
    """An append-only file of JSON lines whose length a checkpoint remembers.

    Resuming truncates it to the remembered length, so that no line stands twice.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder) / "metrics.jsonl")
        ...     mark = journal.append({"epoch": 1})
        ...     _ = journal.append({"epoch": 2})
        ...     journal.truncate(mark)
        ...     journal.read()
        [{'epoch': 1}]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, line: Mapping[str, Any]) -> int:
        """Append one line and return the file's new length in bytes."""
        if _silent:
            return 0
        text = json.dumps(_finite(dict(line)), ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise refused(self.path, error) from None

    def truncate(self, length: int) -> None:
        """Cut the file back to ``length`` bytes; a missing file counts as empty.

        Raises:
            FileError: if it is shorter than that: lines were lost.
        """
        if _silent:
            return
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < length:
            raise FileError(
                f"{self.path} has {size} bytes, expected at least {length}: lines of it are missing",
                cure="put the file back, or remove the stage's folder: it is run again",
            )
        if size > length:
            try:
                os.truncate(self.path, length)
            except OSError as error:
                raise refused(self.path, error) from None

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; an unfinished last line is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]


def make_folder(path: str | Path) -> Path:
    """Make a folder and see that it can be written.

    Raises:
        FileError: if it can not be made or written.
    """
    path = Path(path)
    if _silent:
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise refused(path, error) from None
    return path


def _replace(path: Path, write: Callable[[BinaryIO], Any]) -> Path:
    if _silent:
        return path
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_STRAY, delete=False) as file:
            temporary = Path(file.name)
            write(file)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def _sync_folder(folder: Path) -> None:
    with suppress(OSError, AttributeError):  # Windows has no folder to open
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def refused(path: Path, error: OSError) -> FileError:
    """That a file can not be written, and why."""
    return FileError(
        f"{path} can not be written: {error.strerror or error}",
        cure="free space or choose another folder with --out; what was finished before is kept",
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
