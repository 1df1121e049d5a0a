"""Operators on PyTorch's CUDA tensors: the bits of the CPU, on the stream that PyTorch works on. Needs a GPU and a build for it."""
import pytest
import torch

import kvass

ROW = next(row for row in kvass.backends() if row["op"] == "attention" and row["backend"] == "cuda_exact")
gpu = pytest.mark.skipif(not (torch.cuda.is_available() and ROW["available"]), reason=f"SKIPPED: no GPU ({ROW['reason']})")


def tensors(dtype):
    torch.manual_seed(7)
    return [torch.randn(2, heads, 40, 64).to(dtype) for heads in (6, 2, 2)]


def test_a_device_that_cannot_run_says_why():
    if ROW["available"]:
        pytest.skip("it can")
    assert ROW["reason"] == "not built" or ROW["reason"].startswith("no device: ")
    with pytest.raises(ValueError, match="cuda_exact: no"):
        kvass.get_backend("attention", "cuda")


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_tensors_have_the_bits_of_the_cpu(dtype):
    q, k, v = tensors(dtype)
    expected = kvass.attention(q, k, v, window=20, sinks=3)
    found = kvass.attention(q.cuda(), k.cuda(), v.cuda(), window=20, sinks=3)
    assert found.is_cuda and torch.equal(found.cpu(), expected)
    mask = torch.rand(2, 40) > 0.2
    expected = kvass.attention(q, k, v, key_padding_mask=mask, fp32=True)
    found = kvass.attention(q.cuda(), k.cuda(), v.cuda(), key_padding_mask=mask.cuda(), fp32=True)
    assert torch.equal(found.cpu(), expected)


@gpu
def test_calls_run_on_the_current_stream():
    q, k, v = (t.cuda() for t in tensors(torch.bfloat16))
    expected = kvass.attention(q, k, v)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        moved = q * 1  # queued on the side stream; a call elsewhere would read it too early
        found = kvass.attention(moved, k, v)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(found, expected)


@gpu
def test_tensors_of_two_devices_are_refused():
    q, k, v = tensors(torch.float32)
    with pytest.raises(ValueError, match="k: expected memory on cuda, got cpu"):
        kvass.attention(q.cuda(), k, v)
    with pytest.raises(ValueError, match="key_padding_mask: expected memory of the cuda"):
        kvass.attention(q.cuda(), k.cuda(), v.cuda(), key_padding_mask=torch.ones(2, 40, dtype=torch.bool))
