"""StreamingCache in stock transformers models: rotations, padding, going back, beams, memory."""

import threading

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import kvass.torch as kt  # noqa: E402

kt.register_transformers()

SINKS, WINDOW = 3, 8
SMALL = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
LATENT = dict(
    head_dim=8, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16, n_routed_experts=4,
    num_experts_per_tok=2, moe_intermediate_size=16, num_key_value_heads=4, first_k_dense_replace=9,
)  # fmt: skip
# name: configuration and model, more of the configuration, what turns the query of each layer
KINDS = {
    "llama": ("Llama", {}, "halves"),
    "qwen3": ("Qwen3", {}, "halves"),
    "phi3": ("Phi3", {}, "halves"),
    "cohere": ("Cohere", {}, "pairs"),
    "glm": ("Glm", {}, "pairs"),
    "glm4": ("Glm4", {}, "pairs"),
    "deepseek_v3": ("DeepseekV3", LATENT, "halves at the end"),
    "cohere2": ("Cohere2", dict(layer_types=["full_attention"]), "nothing"),
    "smollm3": ("SmolLM3", dict(no_rope_layers=[0]), "nothing"),
}


def model_of(kind, implementation="kvass", layers=1, **more):
    name, own, _ = KINDS[kind]
    torch.manual_seed(5)
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **own, "num_hidden_layers": layers, **more})
    config._attn_implementation = implementation
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that attention matters
            if parameter.dim() == 2:
                parameter.mul_(4.0)
    return model


def tokens(rows, length, seed):
    return torch.randint(3, 64, (rows, length), generator=torch.Generator().manual_seed(seed))


def close(got, want):
    return float((got - want).abs().max()) < 4e-6 * float(want.abs().max())


def run(model, cache, ids, step, **inputs):
    """Logits of the whole, computed in steps."""
    parts = []
    with torch.no_grad():
        for i in range(0, ids.shape[1], step):
            own = {name: value[:, : i + step] for name, value in inputs.items()}
            parts.append(model(ids[:, i : i + step], past_key_values=cache, **own).logits)
    return torch.cat(parts, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_cache_a_token_sees_the_sinks_and_its_window_as_a_short_text(kind):
    """With one layer a stream's last logits are those of the sinks and the window alone, by the stock attention."""
    model, eager = model_of(kind), model_of(kind, "eager")
    ids = tokens(1, 90, 1)
    for step in (1, 7):
        got = run(model, kt.StreamingCache(model, sinks=SINKS, window=WINDOW), ids, step)
        for end in (SINKS + WINDOW, 40, 90):
            short = torch.cat([ids[:, :SINKS], ids[:, end - WINDOW : end]], 1)
            with torch.no_grad():
                want = eager(short, use_cache=False).logits[:, -1]
            assert close(got[:, end - 1], want), (step, end)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rotation_is_found_by_running_the_model(kind):
    from kvass.torch.rotary import rotations_of

    model = model_of(kind)
    rotation = rotations_of(model, model.config, turning=True)[0]
    found = "nothing"
    if rotation is not None:
        found = ("pairs" if rotation.interleaved else "halves") + (" at the end" if rotation.begin else "")
    assert found == KINDS[kind][2]


def test_layers_with_tables_of_their_own_are_told_apart():
    from kvass.torch.rotary import rotations_of

    torch.manual_seed(6)
    config = transformers.Gemma3TextConfig(
        **{**SMALL, "num_hidden_layers": 2}, sliding_window=5, query_pre_attn_scalar=16,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    config._attn_implementation = "kvass"
    model = transformers.Gemma3ForCausalLM(config).eval()
    found = rotations_of(model, config, turning=True)
    assert found[0] is not None and found[1] is not None
    assert not torch.equal(found[0].inv_freq, found[1].inv_freq)


def test_a_models_modes_are_as_they_were_whoever_asks_meanwhile():
    model = model_of("llama").train()
    model.model.layers[0].mlp.eval()
    before = [module.training for module in model.modules()]
    threads = [threading.Thread(target=kt.StreamingCache, args=(model,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [module.training for module in model.modules()] == before and True in before and False in before


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_frequencies_that_change_with_the_length_are_refused(rope):
    parameters = {"rope_type": rope, "factor": 4.0, "rope_theta": 10000.0}
    if rope == "longrope":
        parameters.update(short_factor=[1.0] * 8, long_factor=[2.0] * 8, original_max_position_embeddings=32)
    model = model_of("llama", rope_parameters=parameters)
    for positions in ("in-cache", "original"):
        with pytest.raises(ValueError, match=f"rope_type: expected frequencies that do not depend .*, got {rope}"):
            kt.StreamingCache(model, positions=positions)


def test_a_model_without_rotary_positions_is_refused():
    config = transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=1, n_head=4, n_positions=64, attn_implementation="kvass"
    )
    with pytest.raises(ValueError, match="expected rotary positions, got none"):
        kt.StreamingCache(transformers.GPT2LMHeadModel(config).eval())


@pytest.mark.parametrize("positions", ["in-cache", "original"])
@pytest.mark.parametrize("kind, step", [("llama", 1), ("llama", 9), ("cohere", 4)])
def test_a_row_with_padding_is_the_row_alone(kind, step, positions):
    model = model_of(kind, layers=3)
    ids = tokens(3, 120, 2)
    padding = [0, 5, 13]
    mask = torch.ones_like(ids)
    for row, count in enumerate(padding):
        mask[row, :count] = 0
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, positions=positions)
    together = run(model, cache, ids, step, attention_mask=mask)
    for row, count in enumerate(padding):
        own = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, positions=positions)
        # The first step ends where the first step of the batch does.
        first = -(-(count + 1) // step) * step - count
        alone = [run(model, own, ids[row : row + 1, count : count + first], first)]
        alone.append(run(model, own, ids[row : row + 1, count + first :], step))
        assert close(together[row : row + 1, count:], torch.cat(alone, 1)), row


def test_padding_that_changes_or_follows_a_token_is_refused():
    model = model_of("llama")
    ids = tokens(2, 8, 3)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW)
    run(model, cache, ids, 8, attention_mask=mask)
    later = torch.ones(2, 9, dtype=torch.long)
    with pytest.raises(ValueError, match="attention_mask: expected padding .2, 0. as before, got .0, 0."):
        model(ids[:, :1], past_key_values=cache, attention_mask=later)
    hole = torch.ones_like(ids)
    hole[1, 4] = 0
    with pytest.raises(ValueError, match="padding before a row's first token only"):
        model(ids, past_key_values=kt.StreamingCache(model), attention_mask=hole)


def test_a_stream_that_went_back_goes_on_as_if_it_had_not():
    model = model_of("llama", layers=2)
    ids = tokens(2, 100, 4)
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, rewind=6)
    run(model, cache, ids[:, :70], 1)
    with torch.no_grad():
        model(tokens(2, 6, 5), past_key_values=cache)  # a guess
    cache.crop(-6)
    assert cache.get_seq_length() == 70
    got = run(model, cache, ids[:, 70:], 1)
    want = run(model, kt.StreamingCache(model, sinks=SINKS, window=WINDOW), ids, 1)[:, 70:]
    assert close(got, want)
    with pytest.raises(ValueError, match="crop: expected at most .* tokens that can still be removed .*, got 99"):
        cache.crop(-99)
    with pytest.raises(ValueError, match="crop: expected 0 or minus the tokens to remove, got 3"):
        cache.crop(3)


def generate(model, ids, cache, **options):
    return model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=80, do_sample=False,
        eos_token_id=None, pad_token_id=0, **options,
    )  # fmt: skip


def test_prompt_lookup_gives_the_tokens_of_greedy_decoding():
    model = model_of("llama", layers=2)
    ids = tokens(1, 9, 6).repeat(1, 3)
    plain = generate(model, ids, kt.StreamingCache(model, sinks=SINKS, window=WINDOW))
    guessed = generate(
        model, ids, kt.StreamingCache(model, sinks=SINKS, window=WINDOW, rewind=10), prompt_lookup_num_tokens=4
    )
    assert torch.equal(plain, guessed)


def test_beams_are_reordered_with_their_keys():
    """The score of the best beam is that of its tokens in a stream of its own."""
    model = model_of("llama", layers=2)
    ids = tokens(2, 12, 7)
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW)
    found = generate(
        model, ids, cache, num_beams=3, return_dict_in_generate=True, output_scores=True, length_penalty=0.0
    )
    logits = run(model, kt.StreamingCache(model, sinks=SINKS, window=WINDOW), found.sequences[:, :-1], 1)
    picked = logits.log_softmax(-1)[:, 11:].gather(2, found.sequences[:, 12:, None]).squeeze(-1).sum(1)
    assert (picked - found.sequences_scores).abs().max() < 1e-3


def test_a_stream_takes_constant_memory_and_moves_its_keys_seldom():
    model = model_of("llama")
    cache = kt.StreamingCache(model, sinks=4, window=100)
    ids = tokens(1, 1, 8)
    memory = set()
    with torch.no_grad():
        for step in range(700):
            model(ids, past_key_values=cache)
            if step >= 300:
                memory.add(cache.layers[0].keys.untyped_storage().data_ptr())
                assert cache.layers[0].keys.untyped_storage().nbytes() == 2 * 16 * 4 * (103 + 64)
    assert len(memory) <= 8  # 400 steps, in buffers of 64 more places than are kept


def test_gradients_flow_through_a_stream():
    model = model_of("llama", layers=2)
    ids = tokens(1, 30, 9)

    def gradient(step):
        model.zero_grad()
        cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, positions="original")
        parts = [model(ids[:, i : i + step], past_key_values=cache).logits for i in range(0, 30, step)]
        torch.cat(parts, 1).pow(2).mean().backward()
        return model.model.layers[0].self_attn.k_proj.weight.grad.clone()

    assert close(gradient(5), gradient(30))


def continues(model, cache, ids, done):
    """Whether the cache, after `done` positions of ids, still gives the logits of a stream in one go."""
    own = kt.StreamingCache(model, sinks=SINKS, window=WINDOW)
    want = run(model, own, ids, 7)[:, done:]
    assert cache.get_seq_length() == done and {layer.cumulative_length for layer in cache.layers} == {done}
    return close(run(model, cache, ids[:, done:], 7), want)


def test_another_model_or_another_attention_is_refused_and_the_stream_is_as_before():
    model, ids = model_of("llama", layers=2), tokens(2, 63, 10)
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW)
    run(model, cache, ids[:, :28], 7)
    others = {
        "expected the one that the cache was made for": [
            model_of("llama", layers=2, rope_parameters={"rope_type": "default", "rope_theta": 100.0}),
            model_of("llama", layers=3), model_of("llama", layers=1), model_of("qwen3", layers=2),
        ],
        "expected attn_implementation kvass": [model_of("llama", one, layers=2) for one in ("eager", "sdpa")],
    }  # fmt: skip
    for words, models in others.items():
        for other in models:
            with pytest.raises(ValueError, match=f"^StreamingCache: model: {words}"):
                run(other, cache, ids[:, 28:35], 7)
            with pytest.raises(ValueError, match=f"^StreamingCache: model: {words}"):
                run(other, kt.StreamingCache(model), ids, 7)
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        with pytest.raises(ValueError, match="^StreamingCache: model: expected attn_implementation kvass"):
            run(model, cache, ids[:, 28:35], 7)
    model.set_attn_implementation("kvass")
    for given in (dict(head_mask=torch.ones(1)), dict(cu_seq_lens_q=torch.tensor([0, 7]), cu_seq_lens_k=torch.tensor([0, 7]))):
        with torch.no_grad(), pytest.raises(ValueError, match="(head_mask|cu_seq_lens_q): expected none"):
            model(ids[:1, 28:35].expand(2, -1), past_key_values=cache, **given)
    assert continues(model, cache, ids, 28)


def test_a_stream_may_go_back_into_its_padding():
    model, ids = model_of("llama", layers=2), tokens(2, 40, 11)
    mask = torch.ones_like(ids)
    mask[0, :9] = 0
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, rewind=20)
    run(model, cache, ids[:, :14], 14, attention_mask=mask[:, :14])
    cache.crop(-9)
    with torch.no_grad():
        parts = [
            model(ids[:, i : i + 7], past_key_values=cache, attention_mask=mask[:, : i + 7]).logits for i in range(5, 40, 7)
        ]
    own = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, positions="in-cache")
    want = run(model, own, ids, 1, attention_mask=mask)[:, 5:]
    assert close(torch.cat(parts, 1)[mask[:, 5:].bool()], want[mask[:, 5:].bool()])


def test_compiled_code_gives_the_stream_or_says_that_it_cannot():
    model, ids = model_of("llama"), tokens(1, 30, seed=3)
    for dynamic in (None, True):
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager", dynamic=dynamic)
        got = run(compiled, kt.StreamingCache(model, SINKS, WINDOW), ids, 1)
        assert torch.equal(got, run(model, kt.StreamingCache(model, SINKS, WINDOW), ids, 1))
    torch._dynamo.reset()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="get_mask_sizes"):
        run(whole, kt.StreamingCache(model, SINKS, WINDOW), ids, 1)
    torch._dynamo.reset()


@pytest.mark.parametrize("positions", [[[5, 6, 9]], [[0, 1, 2]], [[6, 7, 8]]])
def test_positions_that_do_not_follow_each_other_are_refused(positions):
    model, ids = model_of("llama"), tokens(1, 8, seed=3)
    want = run(model, kt.StreamingCache(model, SINKS, WINDOW), ids, 8)
    cache = kt.StreamingCache(model, SINKS, WINDOW)
    run(model, cache, ids[:, :5], 5)
    with pytest.raises(ValueError, match="position_ids: expected positions that follow each other, 5 to 7"):
        run(model, cache, ids[:, 5:], 3, position_ids=torch.tensor(positions))
    assert close(run(model, cache, ids[:, 5:], 3, position_ids=torch.tensor([[5, 6, 7]])), want[:, 5:])


def test_a_stream_of_inference_mode_goes_on_outside_of_it():
    model, ids = model_of("llama", layers=2), tokens(1, 63, 12)
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW)
    with torch.inference_mode():
        run(model, cache, ids[:, :28], 7)
    assert continues(model, cache, ids, 28)


def test_gradients_past_the_window_name_what_has_them():
    model, ids = model_of("llama"), tokens(1, 40, 13)
    cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW)
    with pytest.raises(ValueError, match=r"StreamingCache: gradients: expected torch.no_grad\(\), or positions="):
        for i in range(0, 40, 7):
            model(ids[:, i : i + 7], past_key_values=cache)


@pytest.mark.parametrize("options", [dict(window=1.5), dict(sinks="4"), dict(rewind=None), dict(window=2**64)])
def test_sizes_of_other_types_are_refused(options):
    (name, value), = options.items()
    with pytest.raises(TypeError, match=f"^StreamingCache: {name}: expected an integer"):
        kt.StreamingCache(model_of("llama"), **options)


def test_what_is_no_model_is_refused():
    for other in (None, "llama", torch.nn.Linear(2, 2)):
        with pytest.raises(TypeError, match=f"^StreamingCache: model: expected a model of transformers, got {type(other).__name__}"):
            kt.StreamingCache(other)
