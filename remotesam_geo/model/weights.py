"""Weights in: found, checked tensor by tensor, and identified by what they hold.

A model's identity is a SHA-256 over its tensors, so that it is the same in every file format: of
the sorted lines ``name dtype shape digest``, each ended by a newline, where digest is the SHA-256
of the tensor's bytes (row by row, little-endian). Derived buffers do not count.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from os import PathLike
from pathlib import Path
from threading import Lock

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.utils import logging

from remotesam_geo.errors import InputError, ModelError, path_of

from . import hub
from .configuration import RemoteSAMConfig
from .pth import check_sums, read_pth

__all__ = [
    "LocalWeights",
    "WeightsOrigin",
    "configuration",
    "expected_tensors",
    "locate",
    "read",
    "weights_sha256",
]

BUILT_IN = ("tiny",)
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"  # only where a network has not BERT's vocabulary
DERIVED = re.compile(r"(^|\.)(relative_position_index|position_ids)$")
SPARE = 4 << 20
LISTED = 12
TYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64}


State = dict[str, Tensor]

_bar = Lock()


@dataclass(frozen=True, kw_only=True)
class LocalWeights:
    """Where weights lie on this machine.

    Attributes:
        weights: A published `.pth`, or the `model.safetensors` of a folder.
        folder: The model folder, with its configuration; None for a `.pth`.
        name: What to call it in another process: an absolute path, a built-in name, a repository.
        revision: The commit, where it came from a hub.
    """

    weights: Path
    folder: Path | None
    name: str
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class WeightsOrigin:
    """Which weights a model was loaded with, and how to load the same again.

    Attributes:
        source: What `from_pretrained` takes.
        revision: The commit, where it came from a hub.
        sha256: The identity of the weights as they were stored.
        in_memory: Their identity as they were loaded; another one where the type was changed.
    """

    source: str
    revision: str | None
    sha256: str
    in_memory: str


def locate(
    source: str | PathLike[str] | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
) -> LocalWeights:
    """Find weights, downloading them where needed; none is opened.

    Args:
        source: Nothing or `"1e12Leon/RemoteSAM"` for the released weights, a built-in name, a
            folder in this package's layout, a published `.pth`, or a repository that holds such a
            folder.
        revision: Commit of a repository; needed for others than the released one.
        cache_dir: Another cache than huggingface_hub's.
        local_files_only: Never ask the network.

    Raises:
        InputError: The arguments do not fit together.
        ModelError: Nothing is there; the message says what to put where.
    """
    if source is not None:
        path_of("source", source)
        if not str(source).strip():
            raise InputError('source is empty: give "tiny", a model folder, a .pth, or leave it out')
    name = hub.RELEASED.repo if source is None else os.fspath(source)
    path = Path(name).expanduser()
    if source in BUILT_IN and revision is None:
        return _built_in_weights(name)
    if isinstance(source, str | None) and not path.exists() and hub.is_repository(name):
        return _weights_from_hub(name, revision, None if cache_dir is None else Path(cache_dir), local_files_only)
    if revision is not None:
        raise InputError(f"revision={revision!r} is a commit of a hub; {name!r} is not from one.")
    return _weights_from_disk(path)


def _built_in_weights(name: str) -> LocalWeights:
    folder = Path(str(files("remotesam_geo"))) / "data" / name
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(f"the built-in model {name!r} is not part of this installation.")
    return LocalWeights(weights=folder / WEIGHTS_FILE, folder=folder, name=name)


def _weights_from_hub(name: str, revision: str | None, cache_dir: Path | None, local_files_only: bool) -> LocalWeights:
    released = name == hub.RELEASED.repo
    release = hub.RELEASED if released else hub.foreign(name, CONFIG_FILE, WEIGHTS_FILE, optional=(TOKENIZER_FILE,))
    snapshot = hub.fetch(release, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
    weights = next(iter(release.files)) if released else WEIGHTS_FILE
    return LocalWeights(
        weights=snapshot.folder / weights,
        folder=None if released else snapshot.folder,
        name=name,
        revision=snapshot.revision,
    )


def _weights_from_disk(path: Path) -> LocalWeights:
    name = str(path.resolve())
    if path.is_file():
        if path.suffix == ".safetensors":
            raise InputError(f"{path} holds weights without a configuration; pass its folder, {path.parent}.")
        return LocalWeights(weights=path, folder=None, name=name)
    if path.is_dir():
        missing = [file for file in (CONFIG_FILE, WEIGHTS_FILE) if not (path / file).is_file()]
        if missing:
            raise ModelError(
                f"{path} is no model folder: it lacks {' and '.join(missing)}. (`convert` makes "
                f"one of a published .pth.)"
            )
        return LocalWeights(weights=path / WEIGHTS_FILE, folder=path, name=name)
    raise ModelError(
        f"there is no {str(path)!r}. Weights are nothing (the released ones), a built-in name "
        f"({', '.join(BUILT_IN)}; remotesam-geo models lists other networks), a model folder, a published .pth, or "
        "owner/name on the hub."
    )


def configuration(source: LocalWeights, config: RemoteSAMConfig | None) -> RemoteSAMConfig:
    """The configuration of a source: its own, else the one given, else the released one."""
    if source.folder is None:
        return RemoteSAMConfig() if config is None else config
    path = source.folder / CONFIG_FILE
    try:
        kind = json.loads(path.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    if kind != RemoteSAMConfig.model_type:
        raise ModelError(f"{path} describes a {kind!r} model, not a RemoteSAM one.")
    try:
        own: RemoteSAMConfig = RemoteSAMConfig.from_pretrained(source.folder)
    except ModelError:
        raise
    except Exception as error:  # transformers checks fields with errors of many kinds
        raise ModelError(f"{path} describes no network: {_brief_weights_error(error)}") from error
    return own if config is None else config


def _brief_weights_error(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# --- tensors ----------------------------------------------------------------------------------


def open_tensors(path: Path) -> State:
    """Every tensor of a file by name, mapped: no byte is read yet. Derived buffers are left out."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (
            SafetensorError,
            OSError,
            ValueError,
            LookupError,
            RuntimeError,
            OverflowError,
        ) as error:
            raise ModelError(f"{path} is cut short or damaged: {error}") from error
    else:
        found = read_pth(path)
    return {name: tensor for name, tensor in found.items() if not DERIVED.search(name)}


def _tensor_kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def write_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """The largest first, and aligned when written one after the other."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), -tensors[name].nbytes, name))


def stream(path: Path, expected: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor in memory of its own, in `write_order`, once all names and shapes are checked.

    Pages of a mapping that were read count as this process's memory until the mapping goes. So the
    file is mapped anew a few times, each time for about half of what remains: what is copied and
    what is mapped together exceed the weights by a fortieth at most (or `SPARE`).
    """
    mapped = open_tensors(path)
    check(mapped, expected, path)
    if path.suffix != ".safetensors":
        check_sums(path)
    kinds, names = _tensor_kinds(mapped), write_order(mapped)
    left = sum(tensor.nbytes for tensor in mapped.values())
    spare = max(left // 40, SPARE)
    while True:
        budget, taken = (left + spare) // 2, 0
        while names and (taken == 0 or taken + mapped[names[0]].nbytes <= budget):
            name = names.pop(0)
            own = mapped.pop(name).detach().clone(memory_format=torch.contiguous_format)
            taken += own.nbytes
            yield name, own
            del own
        left -= taken
        if not names:
            return
        del mapped
        mapped = open_tensors(path)
        if _tensor_kinds(mapped) != kinds:
            raise ModelError(f"{path} changed while it was read; load it again.")


def check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Refuse missing, unknown and misshapen tensors, all named."""

    def shown(tensor: Tensor) -> str:
        return f"{'x'.join(map(str, tensor.shape)) or 'scalar'}"

    missing = sorted(expected.keys() - found.keys())
    problems = {
        "missing": [f"{name} ({shown(expected[name])})" for name in missing],
        "unknown": [
            name + "".join(f" (was {near}?)" for near in get_close_matches(name, missing, 1, 0.8))
            for name in sorted(found.keys() - expected.keys())[:LISTED]
        ],
        "misshapen": [
            f"{name} is {shown(found[name])}, should be {shown(want)}"
            for name, want in sorted(expected.items())
            if name in found and found[name].shape != want.shape
        ],
        "of another type": [
            f"{name} is {found[name].dtype}, should be {want.dtype}"
            for name, want in sorted(expected.items())
            if name in found
            and (found[name].dtype not in TYPES or found[name].is_floating_point() != want.is_floating_point())
        ],
    }
    counts = {kind: len(names) for kind, names in problems.items()}
    counts["unknown"] = len(found.keys() - expected.keys())
    if not any(counts.values()):
        return
    lines = [
        f"  {count} {kind}: {', '.join(problems[kind][:LISTED])}"
        + (f" and {count - LISTED} more" if count > LISTED else "")
        for kind, count in counts.items()
        if count
    ]
    raise ModelError(
        f"{path} does not fit the network of this configuration ({len(expected)} tensors):\n"
        + "\n".join(lines)
        + "\nPass the config= that these weights were trained with, or other weights."
    )


# --- identity ---------------------------------------------------------------------------------


def digest(tensor: Tensor) -> str:
    """One tensor's line of the identity, less its name."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind} {tuple(tensor.shape)} {hashlib.sha256(data).hexdigest()}"


def _identity_of_weights(digests: Mapping[str, str]) -> str:
    text = "".join(f"{name} {line}\n" for name, line in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def weights_sha256(model: nn.Module) -> str:
    """The identity of a model's weights as they are now, whatever file they came from.

    Examples:
        >>> import torch
        >>> from remotesam_geo.model import weights_sha256
        >>> layer = torch.nn.Linear(2, 1)
        >>> before = weights_sha256(layer)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> weights_sha256(layer) == before
        False
    """
    return _identity_of_weights(
        {name: digest(tensor) for name, tensor in model.state_dict().items() if not DERIVED.search(name)}
    )


# --- reading -------------------------------------------------------------------------------


def expected_tensors(network: Callable[[RemoteSAMConfig], nn.Module], config: RemoteSAMConfig) -> State:
    """The tensors that a network of this configuration has, without memory behind them."""
    try:
        with torch.device("meta"):
            return network(config).state_dict()
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ModelError(f"the configuration describes no network: {_brief_weights_error(error)}") from error


def read(
    source: LocalWeights,
    expected: Mapping[str, Tensor],
    *,
    sha256: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[State, WeightsOrigin]:
    """Weights in memory, checked against what a network expects.

    Args:
        source: From `locate`.
        expected: The network's own tensors by name, from `expected_tensors`.
        sha256: The identity the weights must have.
        dtype: What weights become in memory; counters stay whole numbers.

    Raises:
        ModelError: The file is damaged or unsafe, does not fit, or holds other weights.
    """
    state: State = {}
    stored: dict[str, str] = {}
    loaded: dict[str, str] = {}
    for name, tensor in stream(source.weights, expected):
        stored[name] = digest(tensor)
        state[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        loaded[name] = stored[name] if state[name] is tensor else digest(state[name])
    return state, origin(source, stored, sha256, loaded=loaded)


def origin(
    source: LocalWeights,
    digests: Mapping[str, str],
    sha256: str | None,
    *,
    loaded: Mapping[str, str] | None = None,
) -> WeightsOrigin:
    """The identity that was found, held against the pinned one and the file's own record."""
    found = _identity_of_weights(digests)
    if sha256 is not None and found != sha256.lower():
        raise ModelError(
            f"the weights of {source.weights} have the SHA-256 {found}, not the pinned {sha256}. "
            f"(It is taken over the tensors, not the file: see `weights_sha256`.)"
        )
    if source.folder is not None:
        with safe_open(source.weights, framework="pt") as file:
            stated = (file.metadata() or {}).get("weights_sha256", found)
        if stated != found:
            raise ModelError(
                f"{source.weights} is damaged: its tensors have the SHA-256 {found}, and it says "
                f"{stated} of itself. Convert or fetch it again."
            )
    return WeightsOrigin(
        source=source.name,
        revision=source.revision,
        sha256=found,
        in_memory=found if loaded is None else _identity_of_weights(loaded),
    )


@contextmanager
def without_bar() -> Iterator[None]:
    """Hide transformers' bar for the blink in which it takes over weights that are in memory."""
    with _bar:
        shown = logging.is_progress_bar_enabled()
        if shown:
            logging.disable_progress_bar()
        try:
            yield
        finally:
            if shown:
                logging.enable_progress_bar()
