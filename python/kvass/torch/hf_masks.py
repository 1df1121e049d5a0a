"""What transformers asks attention to mask, as options of kvass.torch.attention. A mask tensor is never built.

transformers composes a mask as a function of (batch, head, query, key) from a few parts of its own: causal, windows, chunks,
packed sequences. They are recognised by their code. A function that is not recognised is evaluated for the call's rows and
keys, and refused unless it hides exactly what the recognised parts hide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Optional

import torch
from torch import Tensor
from transformers import masking_utils
from transformers.utils.import_utils import is_tracing

__all__ = ["KvassMask", "make_mask"]

_WHAT_IS_UNDERSTOOD = "causal or bidirectional masks with windows, chunks, packed sequences and padding"
_WHAT_TO_DO = "attn_implementation='eager' or 'sdpa' computes it"


def _message(what: str, expected: str, got: Any) -> str:
    return f"attn_implementation kvass: {what}: expected {expected}, got {got}; {_WHAT_TO_DO}"


def refuse(what: str, expected: str, got: Any) -> ValueError:
    return ValueError(_message(what, expected, got))


class _NoTensor(ValueError, AttributeError):
    """A mask was used as a tensor. hasattr() says no, as tools ask that move tensors between devices."""


@dataclass(frozen=True)
class KvassMask:
    """Which keys the rows of a forward pass see. Rows are positions q_offset …, keys are positions kv_offset …"""

    q_offset: int
    q_length: int
    kv_offset: int
    kv_length: int  # keys that are used; a cache may return more, which are not yet written
    causal: bool = False
    window: Optional[int] = None  # latest keys that a row sees, its own included
    window_right: Optional[int] = None
    chunk: int = 0
    left_padding: Optional[Tensor] = None  # [B]: where chunks are counted from
    packed: Optional[Tensor] = None  # [B, Sq]: a number for each document
    padding: Optional[Tensor] = None  # bool [B, kv_length], False is padding
    positions: Optional[Tensor] = None  # [B, Sq]: where the other parts count from, if in each document
    stream: Any = None  # of a StreamingCache

    ndim = 4  # of the tensor that it stands for: generate() makes masks ahead for a StaticCache and hands them over

    def contiguous(self) -> KvassMask:
        return self

    def is_positional(self) -> bool:
        """Whether it depends on where the rows are among the keys."""
        return self.causal or self.window is not None or self.window_right is not None or self.chunk > 0

    def dense(self, batch: int, device: Any) -> Tensor:
        """bool [batch, Sq, Skv], without padding and documents."""
        q = torch.arange(self.q_offset, self.q_offset + self.q_length, device=device)[:, None]
        k = torch.arange(self.kv_offset, self.kv_offset + self.kv_length, device=device)[None, :]
        seen = torch.ones(batch, self.q_length, self.kv_length, dtype=torch.bool, device=device)
        if self.causal:
            seen = seen & (k <= q)
        if self.window is not None:
            seen = seen & (q - k < self.window)
        if self.window_right is not None:
            seen = seen & (k - q <= self.window_right)
        if self.chunk > 0:
            first = torch.zeros(batch, 1, 1, dtype=torch.long, device=device)
            if self.left_padding is not None:
                first = self.left_padding.view(-1, 1, 1)
            seen = seen & ((k - first) // self.chunk == (q - first) // self.chunk)
        return seen

    def options(self) -> dict[str, Any]:
        """The mask as options of kvass.torch.attention over the first kv_length keys."""
        options: dict[str, Any] = {"causal": self.causal, "window": self.window or 0}
        if self.window_right is not None and not self.causal:
            options["window_right"] = self.window_right
        if self.packed is not None:
            options["cu_seqlens_q"] = _offsets(self.packed)
        options.update(self._first_positions())
        return options

    def _first_positions(self) -> dict[str, Any]:
        """Padding, and where chunks begin. Left padding becomes first_position, so that a row keeps its own bits."""
        first = None
        options: dict[str, Any] = {}
        if self.padding is not None:
            first = self.padding.to(torch.uint8).argmax(1)
            keys = torch.arange(self.kv_length, device=first.device)
            if is_tracing(self.padding) or not torch.equal(self.padding, keys >= first[:, None]):
                options["key_padding_mask"] = self.padding
        if self.chunk > 0:
            options["attention_chunk"] = self.chunk
            if self.packed is None and self.left_padding is not None:
                first = self._chunk_start()
                if self.padding is not None:
                    options["key_padding_mask"] = self.padding
        if first is not None:
            if self.packed is not None:
                return {"key_padding_mask": self.padding}
            options["first_position"] = first
        return options

    def _chunk_start(self) -> Tensor:
        """[B]: the first key of a whole chunk, after the padding if all before it is padding. The keys before it are hidden:
        ValueError if a row is among them."""
        assert self.left_padding is not None
        to_start = self.left_padding - self.kv_offset
        within = torch.remainder(to_start, self.chunk)
        covered = to_start == 0
        if self.padding is not None:
            real = torch.where(self.padding.any(1), self.padding.to(torch.uint8).argmax(1), self.kv_length)
            covered = (to_start >= 0) & (real >= to_start.clamp(max=self.kv_length))
        if not is_tracing(to_start) and bool((~covered & (within > self.q_offset - self.kv_offset)).any()):
            raise refuse("mask_function", _WHAT_IS_UNDERSTOOD, "rows before the first whole chunk")
        return torch.where(covered, to_start.clamp(max=self.kv_length), within)

    def _tensor(self, what: str) -> Any:
        unchanged, computed = "a model that hands its mask to attention unchanged", "one that computes with it"
        raise _NoTensor(_message(f"mask: {what}", unchanged, computed))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._tensor(name)

    def __getitem__(self, index: Any) -> Any:
        return self._tensor("[]")

    def __add__(self, *other: Any) -> Any:
        return self._tensor("arithmetic")

    __radd__ = __mul__ = __rmul__ = __and__ = __or__ = __invert__ = __add__


def _begins(packed: Tensor) -> Tensor:
    """bool [B, S]: where a document begins."""
    begins = torch.ones_like(packed, dtype=torch.bool)
    begins[:, 1:] = packed[:, 1:] != packed[:, :-1]
    return begins


def _offsets(packed: Tensor) -> Tensor:
    """cu_seqlens of documents that are numbered [B, S]. In a graph it has B · S + 1 entries; empty documents are at its end."""
    begins = _begins(packed).flatten()
    total = begins.shape[0]
    end = torch.full((1,), total, dtype=torch.long, device=packed.device)
    if is_tracing(packed):
        places = torch.arange(total, device=packed.device)
        return torch.cat([torch.where(begins, places, total).sort().values, end])
    return torch.cat([begins.nonzero().flatten(), end])


# Parts of a mask ----------------------------------------------------------------------------------------------------


class _Unknown(Exception):
    """A function that is not one of transformers' own parts."""


def _variables(function: Callable[..., Any]) -> dict[str, Any]:
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells)}


def _window(mask: KvassMask, found: dict[str, Any]) -> KvassMask:
    window = found["sliding_window"]
    if window < 1:
        raise _Unknown(f"a window of {window}")
    return replace(mask, window=window if mask.window is None else min(mask.window, window))


def _two_sided(mask: KvassMask, found: dict[str, Any]) -> KvassMask:
    if mask.window is not None:
        raise _Unknown("two windows")
    if found["sliding_window"] < 0:
        raise _Unknown(f"a window of {found['sliding_window']}")
    return replace(mask, window=found["sliding_window"] + 1, window_right=found["sliding_window"])


def _chunks(mask: KvassMask, found: dict[str, Any]) -> KvassMask:
    if mask.chunk:
        raise _Unknown("two chunk sizes")
    return replace(mask, chunk=found["chunk_size"], left_padding=found["left_padding"])


def _documents(mask: KvassMask, found: dict[str, Any]) -> KvassMask:
    if mask.packed is not None:
        raise _Unknown("two packed sequences")
    return replace(mask, packed=found["packed_sequence_mask"])


def _all_of(mask: KvassMask, found: dict[str, Any]) -> KvassMask:
    for function in found["mask_functions"]:
        mask = _read(function, mask)
    return mask


def _of_each_document(mask: KvassMask, found: dict[str, Any]) -> KvassMask:
    # Positions in a document differ from those in the row by a constant, which matters to chunks alone.
    if mask.positions is not None:
        raise _Unknown("two remapped positions")
    return replace(_read(found["mask_function"], mask), positions=found["position_ids"])


def _check_documents(mask: KvassMask) -> None:
    """Refuses packed sequences that kvass would not cut, or whose chunks it would not count, as the mask says."""

    def fail(what: str) -> ValueError:
        return refuse("mask_function", _WHAT_IS_UNDERSTOOD, what)

    if mask.packed is None:
        if mask.positions is not None:
            raise fail("remapped positions without packed sequences")
        return
    if is_tracing(mask.packed):  # where the numbers are those that transformers counts itself
        if mask.chunk:
            raise fail("chunks of packed sequences in a compiled graph")
        return
    begins = _begins(mask.packed)
    ordered = mask.packed.sort(1).values
    if not torch.equal(begins.sum(1), _begins(ordered).sum(1)):
        raise fail("packed sequences whose numbers come back")
    where = torch.arange(begins.shape[1], device=begins.device).expand(begins.shape[0], -1)
    if mask.positions is not None:
        where = mask.positions
        restarts = torch.diff(where, prepend=where[:, :1] - 2, dim=-1) != 1
        if bool((restarts & ~begins).any()):
            raise fail("positions that restart within a packed sequence")
    elif mask.left_padding is not None:
        where = where - mask.left_padding[:, None]
    if mask.chunk and bool((where[begins] % mask.chunk).any()):
        raise fail("packed sequences that begin within a chunk")


def _parts() -> dict[Any, Callable[[KvassMask, dict[str, Any]], KvassMask]]:
    """Readers by the code of transformers' functions; of closures, the code that each of its factories gives."""
    some = torch.zeros(1, 1, dtype=torch.long)

    def nothing(*_: Any) -> Tensor:
        return some

    made: list[tuple[str, tuple[Any, ...], Any]] = [
        ("sliding_window_overlay", (1,), _window),
        ("sliding_window_bidirectional_overlay", (1,), _two_sided),
        ("chunked_overlay", (1, some), _chunks),
        ("packed_sequence_mask_function", (some,), _documents),
        ("remap_positions_for_packed_sequence", (nothing, some), _of_each_document),
        ("and_masks", (nothing,), _all_of),
    ]
    readers: dict[Any, Callable[[KvassMask, dict[str, Any]], KvassMask]] = {
        masking_utils.causal_mask_function.__code__: lambda mask, found: replace(mask, causal=True),
        masking_utils.bidirectional_mask_function.__code__: lambda mask, found: mask,
    }
    for name, arguments, reader in made:
        factory = getattr(masking_utils, name, None)  # not in every version
        if factory is not None:
            readers[factory(*arguments).__code__] = reader
    return readers


_READERS = _parts()
_OR = masking_utils.or_masks(masking_utils.causal_mask_function).__code__


def _read(function: Callable[..., Any], mask: KvassMask) -> KvassMask:
    code = getattr(function, "__code__", None)
    if code not in _READERS:
        raise _Unknown(getattr(function, "__qualname__", type(function).__name__))
    return _READERS[code](mask, _variables(function))


def _recognised(function: Callable[..., Any], mask: KvassMask) -> tuple[KvassMask, list[str]]:
    """What the recognised parts say, and the names of the others. A union may add nothing to its first part."""
    code = getattr(function, "__code__", None)
    found = _variables(function) if code in _READERS or code is _OR else {}
    if code is _OR:
        first, *others = found["mask_functions"]
        mask, unknown = _recognised(first, mask)
        return mask, unknown + [getattr(other, "__qualname__", "a function") for other in others]
    if code in _READERS and _READERS[code] is _all_of:
        unknown = []
        for part in found["mask_functions"]:
            mask, more = _recognised(part, mask)
            unknown += more
        return mask, unknown
    if code in _READERS and _READERS[code] is _of_each_document:
        _, unknown = _recognised(found["mask_function"], mask)
        if unknown:
            return mask, unknown
    try:
        return _read(function, mask), []
    except _Unknown as name:
        return mask, [str(name)]


def _check_unknown(function: Callable[..., Any], mask: KvassMask, unknown: list[str], batch: int, device: Any) -> None:
    """Refuses the mask unless the parts that are not recognised hide and show nothing for these rows and keys."""
    names = ", ".join(unknown)
    if is_tracing() or mask.packed is not None:
        raise refuse("mask_function", _WHAT_IS_UNDERSTOOD, names)
    whole = masking_utils.sdpa_mask(
        batch_size=batch, q_length=mask.q_length, kv_length=mask.kv_length, q_offset=mask.q_offset,
        kv_offset=mask.kv_offset, mask_function=function, allow_is_causal_skip=False, use_vmap=True, device=device,
    )  # fmt: skip
    if whole is None or whole.shape[1] != 1 or not torch.equal(whole[:, 0], mask.dense(batch, device)):
        raise refuse("mask_function", _WHAT_IS_UNDERSTOOD, names)


def _padding(mask: KvassMask, attention_mask: Optional[Tensor]) -> Optional[Tensor]:
    """bool [B, kv_length], or None if nothing is padding. A mask that is too short says that the rest is."""
    if attention_mask is None:
        return None
    end = mask.kv_offset + mask.kv_length
    padding = attention_mask[:, mask.kv_offset : end].bool()
    if padding.shape[1] < mask.kv_length:
        padding = torch.nn.functional.pad(padding, (0, mask.kv_length - padding.shape[1]))
    if not is_tracing(padding) and bool(padding.all()):
        return None
    return padding


def _ready_made(mask: KvassMask, q_length: int, q_offset: Any, kv_offset: int) -> KvassMask:
    """A mask that was made ahead, for the step that it was made for."""
    made, wanted = (mask.q_length, mask.q_offset, mask.kv_offset), (int(q_length), int(q_offset), int(kv_offset))
    if made != wanted or mask.stream is not None:
        raise refuse("attention_mask", f"one of (rows, first row, first key) = {wanted}", made)
    return mask


def make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = masking_utils.causal_mask_function,
    attention_mask: Optional[Tensor | KvassMask] = None,
    device: Any = "cpu",
    **keywords: Any,
) -> KvassMask:
    """The mask of attn_implementation="kvass", called by transformers. The keywords only choose how tensors are built."""
    stream = getattr(kv_offset, "stream", None)
    if isinstance(attention_mask, KvassMask):
        return _ready_made(attention_mask, q_length, q_offset, kv_offset)
    if attention_mask is not None and attention_mask.dim() != 2:
        raise refuse("attention_mask", "padding [B, keys] or none", list(attention_mask.shape))
    if isinstance(q_offset, Tensor) and is_tracing(q_offset):
        raise refuse("cache", "positions that are numbers in a compiled graph (DynamicCache)", "a tensor (StaticCache)")
    mask = KvassMask(int(q_offset), int(q_length), int(kv_offset), int(kv_length), stream=stream)
    mask, unknown = _recognised(mask_function, mask)
    if mask.is_positional():
        used = mask.q_offset + mask.q_length - mask.kv_offset
        if not mask.q_length <= used <= mask.kv_length:
            raise refuse("cache", "the step's own keys at the end of it", f"{kv_length} keys for positions up to {used}")
        mask = replace(mask, kv_length=used)
    _check_documents(mask)
    if unknown:
        _check_unknown(mask_function, mask, unknown, batch_size, device)
    if stream is not None:
        stream.take_padding(attention_mask, mask)
        return mask
    return replace(mask, padding=_padding(mask, attention_mask))
