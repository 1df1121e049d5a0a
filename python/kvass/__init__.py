"""kvass: attention over KV caches of planned size, with results that do not depend on how the work was divided.

    attention, kv_cache_attention, attention_backward      operators on tensors that support DLPack (PyTorch, NumPy, JAX)
    merge_attention                                        attentions over parts of the keys as one
    alias, update_cross_attn_cache                         the operators of a conditional cross-attention cache
    Engine, Sequence                                       language models: streams, logits, text, scores, snapshots
    transcribe, Transcriber                                speech in audio files to text
    kvass.caches                                           layouts and the planner: index arithmetic only
    kvass.torch                                            the same operators inside PyTorch: autograd, compile, export

Errors have the library's one-line message: what, what was expected, what was got. Their types: ValueError and TypeError
(arguments, files, states), CacheFull (a ValueError: no room left in the stream), Busy (a RuntimeError: a second thread at
one object), Unsupported (a NotImplementedError), OSError, MemoryError, DeviceError and Cancelled (RuntimeErrors).
"""

from . import caches
from ._core import (
    Busy,
    CacheFull,
    Cancelled,
    DeviceError,
    Engine,
    Generation,
    Sequence,
    Unsupported,
    __version__,
    alias,
    attention,
    attention_backward,
    backends,
    get_backend,
    kv_cache_attention,
    merge_attention,
    set_threads,
    update_cross_attn_cache,
)
from .speech import Transcriber, transcribe

__all__ = [
    "Busy",
    "CacheFull",
    "Cancelled",
    "DeviceError",
    "Engine",
    "Generation",
    "Sequence",
    "Transcriber",
    "Unsupported",
    "__version__",
    "alias",
    "attention",
    "attention_backward",
    "backends",
    "caches",
    "get_backend",
    "kv_cache_attention",
    "merge_attention",
    "set_threads",
    "transcribe",
    "update_cross_attn_cache",
]
