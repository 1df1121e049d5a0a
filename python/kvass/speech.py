"""Speech to text: `kvass transcribe` as a function."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from ._core import _Transcriber

__all__ = ["Transcriber", "transcribe"]


class Transcriber:
    """An open speech model.

    model: a CTranslate2 folder, a Hugging Face folder (model.safetensors), a ggml file or a .kvp.
    math: f32, a16 or a8. weights: f32, f16, bf16, q8_0 or q4_0. kv: storage of keys and values, f32, f16, bf16 or q8.
    "": the file's value; math and kv are f32 if the file has none.
    beam_size: number of beams at temperature 0. best_of: number of texts drawn at higher temperatures. threads 0: one
    for each CPU.

    Raises OSError for a model that cannot be read, ValueError for a damaged one, kvass.Unsupported for one that kvass does
    not know.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        math: str = "",
        weights: str = "",
        kv: str = "",
        beam_size: int = 5,
        best_of: int = 5,
        threads: int = 0,
    ) -> None:
        self._core = _Transcriber(model, math, weights, kv, beam_size, best_of, threads)

    def transcribe(
        self,
        path: str | os.PathLike[str],
        *,
        language: str = "",
        task: str = "transcribe",
        word_timestamps: bool = False,
        timestamps: bool = True,
        vad: bool = False,
        initial_prompt: str = "",
        temperature: Sequence[float] | None = None,
    ) -> dict[str, Any]:
        """The transcript of an audio file (WAV, FLAC, OGG or MP3 of any rate and channels).

        Returns the fields of the command's JSON: language, duration (seconds), segments of start, end, text, tokens,
        avg_logprob, no_speech_prob, temperature, compression_ratio and, with word_timestamps, words.
        language "": detected. task: transcribe, or translate into English. temperature: tried one after the other while
        the text is bad. One thread at a time: a second one gets kvass.Busy.
        """
        text = self.text(
            path,
            "json",
            language=language,
            task=task,
            word_timestamps=word_timestamps,
            timestamps=timestamps,
            vad=vad,
            initial_prompt=initial_prompt,
            temperature=temperature,
        )
        transcript: dict[str, Any] = json.loads(text)
        return transcript

    def text(
        self,
        path: str | os.PathLike[str],
        format: str = "txt",
        *,
        language: str = "",
        task: str = "transcribe",
        word_timestamps: bool = False,
        timestamps: bool = True,
        vad: bool = False,
        initial_prompt: str = "",
        temperature: Sequence[float] | None = None,
    ) -> str:
        """The transcript as txt, srt, vtt, tsv or json."""
        temperatures = None if temperature is None else [float(t) for t in temperature]
        return self._core.transcribe(
            path,
            language,
            task,
            word_timestamps,
            timestamps,
            vad,
            initial_prompt,
            temperatures,
            format,
        )


def transcribe(
    path: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    beam_size: int = 5,
    threads: int = 0,
    language: str = "",
    task: str = "transcribe",
    word_timestamps: bool = False,
    timestamps: bool = True,
    vad: bool = False,
    initial_prompt: str = "",
    temperature: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Transcriber(model).transcribe(path), for one file, with the same options. A Transcriber keeps the model open."""
    return Transcriber(model, beam_size=beam_size, threads=threads).transcribe(
        path,
        language=language,
        task=task,
        word_timestamps=word_timestamps,
        timestamps=timestamps,
        vad=vad,
        initial_prompt=initial_prompt,
        temperature=temperature,
    )
