"""Operators on PyTorch's CUDA tensors: the bits of the CPU, on the stream that PyTorch works on. Needs a GPU and a build for it.

Over a build with the emulation (preset cuda-emulated) CPU tensors pass for the device's, which has the same memory.
"""
import ctypes
import os

import pytest
import torch

import kvass

ROW = next(row for row in kvass.backends() if row["op"] == "attention" and row["backend"] == "cuda_exact")
WHY = ROW["reason"] or "PyTorch finds none"
gpu = pytest.mark.skipif(not (torch.cuda.is_available() and ROW["available"]), reason=f"SKIPPED: no GPU ({WHY})")
EMULATED = os.environ.get("KVASS_EMULATE_CUDA") == "1"  # scripts/python-test.sh
emulation = pytest.mark.skipif(not EMULATED, reason="SKIPPED: this build has no emulated device (preset cuda-emulated)")


def tensors(dtype):
    torch.manual_seed(7)
    return [torch.randn(2, heads, 40, 64).to(dtype) for heads in (6, 2, 2)]


class Emulated:
    """A tensor that says it lies on the first CUDA device."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **_):
        capsule = self.tensor.__dlpack__()
        pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
        pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        # {void* data; int32 device_type; …
        ctypes.c_int32.from_address(pointer_of(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p)).value = 2
        return capsule


def test_a_device_that_cannot_run_says_why():
    if ROW["available"]:
        pytest.skip("it can")
    assert ROW["reason"] == "not built" or ROW["reason"].startswith("no device: ")
    with pytest.raises(kvass.Unsupported, match="cuda_exact: no"):
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


@emulation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_emulated_tensors_have_the_bits_of_the_cpu(dtype):
    cpu = tensors(dtype)
    q, k, v = map(Emulated, cpu)
    out = torch.zeros_like(cpu[0])
    kvass.attention(q, k, v, window=20, sinks=3, out=Emulated(out))
    assert torch.equal(out, kvass.attention(*cpu, window=20, sinks=3))
    mask = torch.rand(2, 40) > 0.2
    out = torch.zeros(out.shape)
    kvass.attention(q, k, v, key_padding_mask=Emulated(mask.to(torch.uint8)), fp32=True, out=Emulated(out))
    assert torch.equal(out, kvass.attention(*cpu, key_padding_mask=mask, fp32=True))
    old, new = [[t[:, :, part] for t in cpu[1:]] for part in (slice(0, 30), slice(30, 40))]
    query = cpu[0][:, :, 30:]
    out = torch.zeros(query.shape, dtype=dtype)
    kvass.kv_cache_attention(Emulated(query), *map(Emulated, old + new), out=Emulated(out))
    assert torch.equal(out, kvass.kv_cache_attention(query, *old, *new))


@emulation
def test_emulated_tensors_and_the_cpus_are_not_mixed():
    cpu = tensors(torch.float32)
    q, k, v = map(Emulated, cpu)
    with pytest.raises(ValueError, match="k: expected memory on cuda, got cpu"):
        kvass.attention(q, cpu[1], v, out=q)
    with pytest.raises(ValueError, match="key_padding_mask: expected memory of the cuda"):
        kvass.attention(q, k, v, key_padding_mask=torch.ones(2, 40, dtype=torch.bool), out=q)
    with pytest.raises(ValueError, match="out: expected an output tensor"):
        kvass.attention(q, k, v)
