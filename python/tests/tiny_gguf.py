"""A GGUF file with a vocabulary put into it: metadata is walked, keys are added in front, tensor data aligned anew."""

import struct

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def _skip_string(data, at):
    return at + 8 + struct.unpack_from("<Q", data, at)[0]


def _skip_value(data, at, kind):
    if kind == _STRING:
        return _skip_string(data, at)
    if kind != _ARRAY:
        return at + _SIZES[kind]
    of, count = struct.unpack_from("<IQ", data, at)
    at += 12
    for _ in range(count):
        at = _skip_value(data, at, of)
    return at


def _string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _array(kind, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def with_vocabulary(data, alignment=32):
    version, tensors, keys = struct.unpack_from("<IQQ", data, 4)
    at = begin = 24
    vocabulary = 0
    for _ in range(keys):
        name = data[at + 8 : _skip_string(data, at)].decode()
        at = _skip_string(data, at)
        kind = struct.unpack_from("<I", data, at)[0]
        if name.endswith(".vocab_size"):
            vocabulary = struct.unpack_from("<I", data, at + 4)[0]
        at = _skip_value(data, at + 4, kind)
    for _ in range(tensors):
        at = _skip_string(data, at)
        dims = struct.unpack_from("<I", data, at)[0]
        at += 4 + 8 * dims + 4 + 8
    pad = lambda n: -n % alignment  # noqa: E731
    body = data[at + pad(at) :]
    tokens = ["<unk>", "<s>", "</s>"] + [chr(ord("a") + i % 26) + "x" * (i // 26) for i in range(vocabulary - 3)]
    added = [
        ("tokenizer.ggml.model", _STRING, _string("llama")),
        ("tokenizer.ggml.tokens", _ARRAY, _array(_STRING, [_string(t) for t in tokens])),
        ("tokenizer.ggml.scores", _ARRAY, _array(6, [struct.pack("<f", -i) for i in range(vocabulary)])),
        ("tokenizer.ggml.token_type", _ARRAY, _array(5, [struct.pack("<i", t) for t in [2, 3, 3] + [1] * (vocabulary - 3)])),
        ("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)),
        ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 2)),
    ]
    header = data[:4] + struct.pack("<IQQ", version, tensors, keys + len(added))
    header += b"".join(_string(name) + struct.pack("<I", kind) + value for name, kind, value in added) + data[begin:at]
    return header + bytes(pad(len(header))) + body
