"""Lowered cross caches: a tiny module's and a Whisper decoder's in ExecuTorch's runtime, the tiny module compiled ahead of time
by PyTorch.

Needs scripts/python-extras.sh executorch; python-test.sh puts it on the path with KVASS_LONG=1.
"""

import pytest

torch = pytest.importorskip("torch")
executorch = pytest.importorskip("executorch")

import kvass.torch as kt  # noqa: E402


class Cross(torch.nn.Module):
    def __init__(self, functional):
        super().__init__()
        torch.manual_seed(3)
        self.k, self.v = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.cache = kt.CrossAttentionCache(1, 2, 6, 4, functional=functional)

    def forward(self, states):
        k, v = self.cache(states, self.k, self.v)
        return k.sum(-1) + v.sum(-1)


def test_a_cross_cache_runs_in_the_runtime_and_its_second_step_reuses():
    from executorch.exir import to_edge
    from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer

    module, states = Cross(functional=True).eval(), torch.randn(1, 6, 8)
    with torch.no_grad():
        program = torch.export.export(module, (states,))
        want = module(states)
    decomposed = program.run_decompositions().module()
    with torch.no_grad():
        for given in (states, states * 0):
            assert torch.allclose(decomposed(given), want)
    buffer = to_edge(program).to_executorch().buffer  # held as long as it runs: the runtime reads it in place
    loaded = _load_for_executorch_from_buffer(buffer)
    for given in (states, states * 0, states + 1):
        assert torch.allclose(loaded.forward([given])[0], want, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_the_operators_that_write_are_lowered(strict):
    from executorch.exir import EdgeCompileConfig, to_edge

    module, states = Cross(functional=False).eval(), torch.randn(1, 6, 8)
    with torch.no_grad():
        program = torch.export.export(module, (states,), strict=strict)
        want = module(states)
        decomposed = program.run_decompositions().module()
        for given in (states, states * 0):
            assert torch.allclose(decomposed(given), want)
        edge = to_edge(program, compile_config=EdgeCompileConfig(_check_ir_validity=False))
    assert len(edge.to_executorch().buffer) > 0


class CachedCrossAttention(torch.nn.Module):
    """In place of a decoder layer's attention to the encoder: its projections, with keys and values of the first step."""

    def __init__(self, attention, rows):
        super().__init__()
        self.attention = attention
        self.cache = kt.CrossAttentionCache(1, attention.num_heads, rows, attention.head_dim, functional=True)

    def forward(self, hidden_states, key_value_states, **_):
        own = self.attention
        k, v = self.cache(key_value_states, own.k_proj, own.v_proj)
        q = own.q_proj(hidden_states).unflatten(-1, (own.num_heads, own.head_dim)).transpose(1, 2)
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=own.scaling)
        return own.out_proj(out.transpose(1, 2).flatten(2)), None


def whisper(rows):
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=32, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=rows, max_target_positions=8, num_mel_bins=8,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).eval().requires_grad_(False)
    for parameter in model.parameters():  # as they are made, they hide what attention gives
        parameter.copy_(0.3 * torch.randn_like(parameter) + (parameter.dim() == 1))
    return model


def test_a_whisper_decoder_runs_in_the_runtime_and_its_later_steps_reuse():
    from executorch.exir import to_edge
    from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer
    from transformers.integrations.executorch import Seq2SeqLMDecoderExportableModuleWithStaticCache

    ids, states, model = [5, 9, 3, 7], torch.randn(1, 6, 16), whisper(6)
    want = model(encoder_outputs=(states,), decoder_input_ids=torch.tensor([ids])).logits[0]
    assert (want[1:] - want[:-1]).abs().max() > 0.1
    for layer in model.model.decoder.layers:
        layer.encoder_attn = CachedCrossAttention(layer.encoder_attn, 6)
    model.lm_head = model.proj_out
    decoder = Seq2SeqLMDecoderExportableModuleWithStaticCache(model, 8, 1).eval()

    def steps(run):  # all but the first without the encoder's states
        given = [states] + [torch.zeros_like(states)] * (len(ids) - 1)
        return torch.stack([run(torch.tensor([[ids[i]]]), given[i], torch.tensor([i])).flatten() for i in range(len(ids))])

    program = torch.export.export(decoder, (torch.tensor([[1]]), states, torch.tensor([0])), strict=True)
    assert torch.allclose(steps(decoder), want, atol=1e-5)
    assert torch.allclose(steps(program.run_decompositions().module()), want, atol=1e-5)
    buffer = to_edge(program).to_executorch().buffer  # held as long as it runs: the runtime reads it in place
    loaded = _load_for_executorch_from_buffer(buffer)
    assert torch.allclose(steps(lambda *given: loaded.forward(given)[0]), want, atol=1e-5)


@pytest.mark.parametrize("functional", [False, True])
def test_a_cross_cache_is_compiled_ahead_of_time(functional, tmp_path):
    module, states = Cross(functional).eval(), torch.randn(1, 6, 8)
    with torch.no_grad():
        program = torch.export.export(module, (states,))
        want = module(states)
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "cross.pt2"))
        compiled = torch._inductor.aoti_load_package(package)
        for given in (states, states * 0, states + 1):
            assert torch.allclose(compiled(given), want, atol=1e-6)
