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
DIGITS3 = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
DIGITS1 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
THREES = r"\d{1,3}(?=(?:\d{3})*\b)"
HAN_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
CAPITALS = LOWER + ANY_CASE + "?|" + UPPER + ANY_CASE + "?|"
# Letters that have a case.
CASED = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-"
    "\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)
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
    "minicpm5": [r"\p{N}{1,3}", ANY_CASE + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+|" + MARKS],
    "jais-2": [
        ANY_CASE + DIGITS3 + r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" +
        "".join(rf"|\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s{1}"
    ],
    "ufakzeka": [DIGITS1 + MARKS],
    "seed-coder": [ANY_CASE + "|" + DIGITS1 + r" ?[^\s\p{L}\p{N}\r\n]+" + TAIL],
    "bailingmoe": [
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    ],
    "laguna": [r"[^\n]+|[\n]+", ANY_CASE + "|" + DIGITS1 + MARKS],
    "exaone-moe": [
        ANY_CASE + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
        r"|\s*[\r\n]|\s+(?!\S)|\s+"
    ],
    "tiny_aya": [THREES, CAPITALS + r"\p{N}{1,3}|" + SLASH],
    "youtu": [
        "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
        "|[\u3105-\u312f]+|" + HAN_KANA, CAPITALS + r"\p{N}|" + SLASH
    ],
    "kimi-k2": [
        r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+" +
        ANY_CASE + r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*" + ANY_CASE + r"?|\p{N}{1,3}|" + MARKS
    ],
    "chameleon": [
        "<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", r"[\t\n]|    |  ", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", WORDS
    ],
    "deepseek-llm": [
        "[\r\n]", CASED, "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$",
        "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"
    ],
    "spark2_5": [r"\p{N}{1,3}", HAN_KANA, DEEPSEEK + r"|[\r\n]|\s+(?!\S)|\s+", r"\p{N}"],
    "superbpe": [r"\p{N}+", r"(?=(?:\d{3})+(?!\d))"],
    "bloom": [" ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"],
    "viking": [" ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+", r"\p{N}"],
}
# Falcon's divides bytes after they have become characters.
FALCON = pre_tokenizers.Sequence([
    pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
    pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])
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
    pieces["falcon"] = [[len(piece) for piece, _ in FALCON.pre_tokenize_str(text)] for text in cases]
    golden = {"vocabularies": vocabularies, "texts": cases, "ids": ids, "pieces": pieces}
    (HERE / "bpe.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(cases)} texts, {[len(v['tokens']) for v in vocabularies]} tokens")


if __name__ == "__main__":
    main()
