"""A cross-attention cache under a condition: the first step computes keys and values, later steps reuse them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .arguments import check_sizes, dense
from .ops import alias, update_cross_attn_cache, updated_cross_attn_cache


class CrossAttentionCache(nn.Module):
    """Keys and values of the encoder output in one layer, kept from the first step on. Works eager, compiled and exported.

    The buffers k_cache and v_cache are [batch, heads, source_rows, head_dim]; `initialized` is bool [1]. forward(states,
    k_proj, v_proj) returns (k, v) of the buffers' shape: computed by k_proj and v_proj from `states` if not initialized,
    otherwise from the buffers. If `states` has fewer rows than source_rows, they fill the first rows and the caller masks
    the others. reset() clears the cache.

    functional: branches write nothing, and the buffers are written after them, at each step. For graphs that are lowered
    (run_decompositions, ExecuTorch's to_edge): they then consist of PyTorch's own operators.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        source_rows: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        *,
        functional: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(1, "of them", batch=batch, heads=heads, source_rows=source_rows, head_dim=head_dim)
        self.functional = functional
        shape = (batch, heads, source_rows, head_dim)
        self.register_buffer("k_cache", torch.zeros(shape, dtype=dtype))
        self.register_buffer("v_cache", torch.zeros(shape, dtype=dtype))
        self.register_buffer("initialized", torch.zeros(1, dtype=torch.bool))

    def _heads(self, rows: Tensor) -> Tensor:
        batch, heads, _, head_dim = self.k_cache.shape
        if rows.dim() != 3 or rows.shape[2] != heads * head_dim:
            raise ValueError(
                f"CrossAttentionCache: k_proj, v_proj: expected [{batch}, rows, {heads * head_dim}], got {list(rows.shape)}"
            )
        return rows.view(batch, -1, heads, head_dim).transpose(1, 2)

    def _check(self, states: Tensor) -> None:
        batch, _, source_rows, _ = self.k_cache.shape
        dense("states", states)
        if states.dim() != 3 or states.shape[0] != batch:
            raise ValueError(f"CrossAttentionCache: states: expected [{batch}, rows, width], got {list(states.shape)}")
        if states.shape[1] > source_rows:
            raise ValueError(f"CrossAttentionCache: states: expected at most {source_rows} rows, got {states.shape[1]}")

    def forward(
        self, states: Tensor, k_proj: Callable[[Tensor], Tensor], v_proj: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        def use_cached(k_cache: Tensor, v_cache: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
            return (k_cache.clone(), v_cache.clone()) if self.functional else alias(k_cache, v_cache)

        def recompute(k_cache: Tensor, v_cache: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
            update = updated_cross_attn_cache if self.functional else update_cross_attn_cache
            return update(self._heads(k_proj(states)), k_cache), update(self._heads(v_proj(states)), v_cache)

        self._check(states)
        if not torch.compiler.is_compiling():  # errors of a branch are then its own
            branch = use_cached if bool(self.initialized) else recompute
            k, v = branch(self.k_cache, self.v_cache, states)
        else:
            k, v = torch.cond(self.initialized, use_cached, recompute, (self.k_cache, self.v_cache, states))
        if self.functional:
            # ExecuTorch plans the memory of a branch's results anew for the next torch.cond of a graph: they are taken out.
            k, v = k.clone(), v.clone()
            self.k_cache.copy_(k)
            self.v_cache.copy_(v)
        self.initialized.fill_(True)
        return k, v

    def reset(self) -> None:
        self.initialized.fill_(False)
