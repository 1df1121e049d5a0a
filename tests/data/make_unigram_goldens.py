#!/usr/bin/env python3
"""Makes unigram.json: small unigram vocabularies trained with SentencePiece, and what it says about texts.

    pip install sentencepiece tokenizers && python3 tests/data/make_unigram_goldens.py

"vocabularies": pieces, scores, types and the compiled table of replacements (hexadecimal) of each; "texts"; "ids": for each
vocabulary the ids of each text.
"""
import io
import json
import pathlib
import tempfile

import sentencepiece
from make_bpe_goldens import ROOT, SENTENCES, texts

HERE = pathlib.Path(__file__).resolve().parent
RULES = {"\t": " ", "\n": " ", "\r": " ", "\u3000": " ", "\u00a0": " ", "\ufb01": "fi", "\u2026": "...", "e\u0301": "\u00e9",
         "\u00bd": "1\u20442", "\u200b": "", **{chr(0xff01 + i): chr(0x21 + i) for i in range(94)}}
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def train(**options):
    model = io.BytesIO()
    corpus = [line for file in ("README.md", "docs/numerics.md", "LICENSE")
              for line in (ROOT / file).read_text(encoding="utf-8").split("\n")] + SENTENCES * 2
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        for before, after in RULES.items():
            code = lambda text: " ".join(f"{ord(c):x}" for c in text)
            rules.write(f"{code(before)}\t{code(after)}\n")
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=model, model_type="unigram", vocab_size=700,
            normalization_rule_tsv=rules.name, minloglevel=2, hard_vocab_limit=False, num_threads=1, **options)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), model.getvalue()


def charsmap(proto):
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    return model.normalizer_spec.precompiled_charsmap.hex()


def entry(name, **options):
    processor, proto = train(**options)
    kinds = [(processor.is_unknown, UNKNOWN), (processor.is_control, CONTROL), (processor.is_byte, BYTE)]
    count = processor.get_piece_size()
    return processor, {
        "name": name,
        "tokens": [processor.id_to_piece(i) for i in range(count)],
        "scores": [processor.get_score(i) for i in range(count)],
        "types": [next((kind for test, kind in kinds if test(i)), NORMAL) for i in range(count)],
        "charsmap": charsmap(proto),
        "remove_extra_whitespaces": options.get("remove_extra_whitespaces", True),
    }


def main():
    # Characters that are pieces of their own may be any; control marks are not text here.
    cases = [text for text in texts() if "\0" not in text and "</s>" not in text and "<s>" not in text]
    vocabularies, ids = [], {}
    for name, options in {"plain": {}, "bytes": {"byte_fallback": True}, "spaces": {"remove_extra_whitespaces": False}}.items():
        processor, vocabulary = entry(name, **options)
        vocabularies.append(vocabulary)
        ids[name] = [processor.encode(text) for text in cases]
    golden = {"vocabularies": vocabularies, "texts": cases, "ids": ids}
    (HERE / "unigram.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(cases)} texts, {[len(v['tokens']) for v in vocabularies]} tokens")


if __name__ == "__main__":
    main()
