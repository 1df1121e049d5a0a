"""The kernels of torch.ops.kvass by dispatch key: devices, autocast, vmap, views and layouts, and Inductor's lowering.

schemas.py has the operators, fakes.py their kernels without memory, gradients.py their derivatives; ops.py the functions
that users call. All operators return new tensors. Their schemas describe memory accurately, with one exception, which
ExecuTorch's operator has too: update_cross_attn_cache writes its second argument, and its schema does not say so. A schema
that does is rewritten within torch.cond into a copy that no decomposition and no lowering accepts. The bits are those of
kvass.attention (docs/numerics.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _core
from .arguments import check_dense
from .fakes import check_update
from .schemas import BACKWARD_NAMES, NAMES, OPERATORS, library, named, tensors_of


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def _keywords(names: tuple[str, ...], options: tuple[Any, ...]) -> dict[str, Any]:
    return {name: _plain(option) for name, option in named(names, options).items()}


def _attention(q, k, v, *options):
    return _core.attention(_plain(q), _plain(k), _plain(v), **_keywords(NAMES, options))


def _attention_with_lse(q, k, v, *options):
    return _core.attention(_plain(q), _plain(k), _plain(v), **_keywords(NAMES, options), return_lse=True)


def _merge_attention(outs, lses, fp32=False):
    return _core.merge_attention([_plain(out) for out in outs], [_plain(lse) for lse in lses], fp32=fp32)


def _kv_cache_attention(q, k_cache, v_cache, k_new, v_new, *options):
    tensors = (_plain(tensor) for tensor in (q, k_cache, v_cache, k_new, v_new))
    return _core.kv_cache_attention(*tensors, **_keywords(NAMES, options))


def _attention_backward(dout, q, k, v, *options):
    tensors = (_plain(tensor) for tensor in (q, k, v, dout))
    return _core.attention_backward(*tensors, **_keywords(BACKWARD_NAMES, options))


def _update(value, cache):
    _core.update_cross_attn_cache(_plain(value), _plain(cache))
    return cache.detach().clone()


def _update_out(value, cache, *, out):
    _core.update_cross_attn_cache(_plain(value), _plain(cache))
    return out.copy_(cache)


def _updated(value, cache):
    check_update(value, cache)
    # Contiguous, as a cache is: the branches of a torch.cond have one layout.
    return torch.cat([value, cache[:, :, value.shape[2] :]], 2).contiguous()


def _alias(a, b):
    return a.clone(), b.clone()


def _alias_out(a, b, *, out0, out1):
    return out0.copy_(a), out1.copy_(b)


for _device in ("CPU", "CUDA"):  # in a build without the device the call is an error
    library.impl("attention", _attention, _device)
    library.impl("attention_with_lse", _attention_with_lse, _device)
    library.impl("merge_attention", _merge_attention, _device)
    library.impl("kv_cache_attention", _kv_cache_attention, _device)
    library.impl("attention_backward", _attention_backward, _device)
    library.impl("update_cross_attn_cache", _update, _device)
    library.impl("update_cross_attn_cache.out", _update_out, _device)
library.impl("alias", _alias, "CompositeExplicitAutograd")
library.impl("alias.out", _alias_out, "CompositeExplicitAutograd")
library.impl("updated_cross_attn_cache", _updated, "CompositeImplicitAutograd")


# Tensors whose elements do not lie in memory as their shapes say. Without these, PyTorch answers with a list of the operator's kernels.
_LAYOUTS = ("SparseCPU", "SparseCUDA", "SparseCsrCPU", "SparseCsrCUDA", "MkldnnCPU", "NestedTensorCPU", "NestedTensorCUDA", "QuantizedCPU")


def _refuse_layouts(name: str) -> None:
    arguments = [argument.name for argument in getattr(torch.ops.kvass, name).default._schema.arguments]

    def refuse(*given):
        for argument, value in zip(arguments, given):
            for tensor in tensors_of([value]):
                check_dense(argument, tensor)
        raise AssertionError(f"{name}: expected a tensor of another layout, got none")

    for key in _LAYOUTS:
        library.impl(name, refuse, key)


def _refuse_vmap(name: str) -> None:
    def refuse(info, in_dims, *arguments):
        raise ValueError(f"{name}: torch.vmap: expected batch and heads as dimensions of the tensors, got a mapped call")

    torch.library.register_vmap(f"kvass::{name}", refuse, lib=library)


def _refuse_negated_cache(name: str) -> None:
    """PyTorch would hand over a copy of a view that it negates when it is read, and the copy would be written."""
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.kvass, packet), overload or "default")

    def kernel(value, cache, **out):
        if cache.is_neg() or any(tensor.is_neg() for tensor in out.values()):
            written = "cache" if cache.is_neg() else "out"
            raise TypeError(f"{written}: expected memory to write to, got a view that is negated when it is read")
        return operator(value.resolve_neg(), cache, **out)

    library.impl(name, kernel, "Negative")


for _name in OPERATORS:
    _refuse_layouts(_name)
    _refuse_vmap(_name)
for _name in ("update_cross_attn_cache", "update_cross_attn_cache.out"):
    _refuse_negated_cache(_name)


def _register_autocast(name: str, tensors: int, device: str) -> None:
    """Under torch.autocast q, k and v (and q_sink) are in autocast's dtype, as in PyTorch's own attention."""
    key = f"Autocast{device.upper()}"
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    operator = getattr(torch.ops.kvass, name).default

    def cast(value: Any, dtype: torch.dtype) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def kernel(*arguments):
        dtype = torch.get_autocast_dtype(device)
        at = tensors + NAMES.index("q_sink")
        arguments = [
            cast(value, dtype) if i < tensors or i == at else value for i, value in enumerate(arguments)
        ]  # fmt: skip
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*arguments)

    library.impl(name, kernel, key)


for _device in ("cpu", "cuda"):
    _register_autocast("attention", 3, _device)
    _register_autocast("attention_with_lse", 3, _device)
    _register_autocast("kv_cache_attention", 5, _device)


def _register_lowering() -> None:
    """At this stage compiled code is functional, so alias returns the tensors themselves, without a copy."""
    from torch._inductor.lowering import register_lowering

    register_lowering(torch.ops.kvass.alias.default, type_promotion_kind=None)(lambda a, b: (a, b))


# Importing Inductor takes seconds, so the lowering is registered at the first compilation.
def _with_inductor() -> None:
    import sys

    if "torch._inductor.lowering" in sys.modules:
        _register_lowering()
        return

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name != "torch._inductor.lowering":
                return None
            sys.meta_path.remove(self)
            from importlib.util import find_spec

            spec = find_spec(name)
            if spec is None or spec.loader is None:
                return spec
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _register_lowering()

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())


_with_inductor()
