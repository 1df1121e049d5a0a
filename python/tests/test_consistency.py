"""check_consistency: kvass's two ways have the same bits; the table and the plot are there."""

import pytest

torch = pytest.importorskip("torch")

import kvass.torch as kt  # noqa: E402


def two_layers(heads=4, kv_heads=2, dim=32):
    torch.manual_seed(1)
    width = heads * dim
    layers = [
        tuple(torch.randn(out, width) / width**0.5 for out in (width, kv_heads * dim, kv_heads * dim, width))
        for _ in range(2)
    ]
    linear = torch.nn.functional.linear

    def split(x, count):
        return x.view(*x.shape[:2], count, dim).transpose(1, 2)

    def model_fn(x, attention, start):
        for i, (q, k, v, o) in enumerate(layers):
            out = attention(
                split(linear(x, q), heads), split(linear(x, k), kv_heads), split(linear(x, v), kv_heads), layer=i
            )
            x = x + linear(out.transpose(1, 2).reshape(x.shape), o)
        return x.log_softmax(-1)

    return model_fn, torch.randn(1, 96, width)


@pytest.mark.parametrize("chunk", [1, 7])
def test_rollout_is_training_to_the_bit_with_kvass(chunk):
    model_fn, inputs = two_layers()
    found = kt.check_consistency(model_fn, inputs, chunk=chunk)
    assert set(found.drift) == {"eager", "sdpa", "kvass"}
    assert found.identical["kvass"] and float(found.drift["kvass"].max()) == 0.0
    assert found.drift["sdpa"].shape == (96,)
    lines = str(found).splitlines()
    assert len(lines) == 5 and lines[-1].startswith("kvass") and lines[-1].endswith("yes")


def test_the_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    model_fn, inputs = two_layers()
    path = tmp_path / "drift.png"
    kt.check_consistency(model_fn, inputs[:, :16], plot=path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_bad_arguments_are_refused():
    model_fn, inputs = two_layers()
    with pytest.raises(ValueError, match="implementations: expected some of eager, sdpa, kvass, got flash"):
        kt.check_consistency(model_fn, inputs, implementations=["flash"])
    with pytest.raises(ValueError, match="chunk"):
        kt.check_consistency(model_fn, inputs, chunk=0)
