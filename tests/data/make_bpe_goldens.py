#!/usr/bin/env python3
"""Makes bpe.json: small byte-level vocabularies trained with HF tokenizers, and what it says about texts.

    pip install tokenizers && python3 tests/data/make_bpe_goldens.py

"vocabularies": tokens, merges and pre-tokenizer of each, as a GGUF file has them; "texts"; "ids": for each vocabulary the
ids of each text; "pieces": for each kind of pre-tokenizer the length in bytes of each piece of each text.
"""
import json
import pathlib
import random
import unicodedata

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
ANY_CASE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL
PATTERNS = {
    "default": [r"[\p{P}\$\+<=>\^~\|]+", WORDS, r"\p{N}+", "[0-9][0-9][0-9]"],
    "llama-bpe": [ANY_CASE + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + MARKS],
    "qwen2": [ANY_CASE + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + MARKS],
    "qwen35": [ANY_CASE + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL],
    "tekken": [LOWER + "|" + UPPER + r"|\p{N}|" + SLASH],
    "gpt-4o": [LOWER + ANY_CASE + "?|" + UPPER + ANY_CASE + r"?|\p{N}{1,3}|" + SLASH],
    "gpt-2": [WORDS],
    "smollm": [r"\p{N}", WORDS],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
        + TAIL,
    ],
}
TRAINED = {"llama-bpe": True, "qwen2": False, "gpt-2": False}  # name -> ignore_merges
FRAGMENTS = [
    "'s", "'S", "'t", "'RE", "'ve", "'M", "'ll", "'LL", "'d", "'\u017f", " ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", " \n",
    "\u00a0", "\u180e", "\u0085", "\u2028", "\u3000", "\u200b", "1", "12", "123", "1234", "12345", "½", "Ⅷ", "٣", "a", "A",
    "abc", "ABC", "aB", "the", " the", " and", "é", "e\u0301", "ñ", "中文", "日本語", "한국어", "こんにちは", "カタカナ", "العربية",
    "हिन्दी", "ไทย", "🙂", "👨‍👩‍👧‍👦", "🇩🇪", "!", "?!", "...", "/", "//", "()", "[]", "{", "}", "_", "$", "+", "<", ">", "=", "^",
    "~", "|", "`", "@", "#", "&", "-", ";", '"', "\\", "x=1;\n", "    return 0\n", "\x00", "\x1c", "\x7f",
]
SENTENCES = [
    "", "Hello, world!", " leading and trailing ", "I'm sure they'll say it's what we've DONE, isn't it? I'D say so.",
    "In the beginning was the Word, and the Word was with the stream.", "3.14159 and 1,000,000 and 0x7fffffff and 2026-11-05",
    "def f(x):\n    if x > 0:\n        return x ** 2\n\treturn None  # done\n", "Straße, naïve café, Ångström, œuvre",
    "你好，世界！今天天气很好。", "日本語のテキストです。カタカナも。", "한국어 텍스트입니다.", "Привет, как дела? Хорошо!",
    "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "🙂🙃 👩‍🚀 🇩🇪 👍🏽", "a" * 150, "ab" * 60, " " * 90 + "x", "\n" * 70, "1" * 80,
    "\t\t\t\n \n  \n   \n", "<|eot_id|><|im_end|></s>", "camelCaseAndPascalCase HTTPServer XMLHttpRequest iOS",
]


def texts():
    draw = random.Random(20240711)
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    result = list(SENTENCES) + FRAGMENTS
    result += ["".join(draw.choice(FRAGMENTS) for _ in range(draw.randint(2, 20))) for _ in range(90)]
    result += ["".join(draw.choice(known) for _ in range(draw.randint(1, 16))) for _ in range(20)]
    return result


def splitter(name):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in PATTERNS[name]])


def train(name, ignore_merges):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [splitter(name), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1000, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    corpus = [(ROOT / file).read_text(encoding="utf-8") for file in ("README.md", "docs/numerics.md", "LICENSE")]
    tokenizer.train_from_iterator(corpus + SENTENCES * 2, trainer)
    return tokenizer


def main():
    cases = texts()
    vocabularies, ids = [], {}
    for name, ignore_merges in TRAINED.items():
        tokenizer = train(name, ignore_merges)
        model = json.loads(tokenizer.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].get)
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        vocabularies.append({"pre": name, "tokens": tokens, "merges": merges})
        ids[name] = [tokenizer.encode(text).ids for text in cases]
    pieces = {name: [[len(piece.encode()) for piece, _ in splitter(name).pre_tokenize_str(text)] for text in cases]
              for name in PATTERNS}
    golden = {"vocabularies": vocabularies, "texts": cases, "ids": ids, "pieces": pieces}
    (HERE / "bpe.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(cases)} texts, {[len(v['tokens']) for v in vocabularies]} tokens")


if __name__ == "__main__":
    main()
