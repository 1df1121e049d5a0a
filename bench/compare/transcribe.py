"""Runs kvass transcribe and faster-whisper by turns and prints a table; see faster_whisper.sh, which installs the latter.

Called as `transcribe.py --peer AUDIO MODEL THREADS BEAM TYPE` it is one run of faster-whisper: a JSON line.
"""
import json
import re
import resource
import statistics
import subprocess
import sys
import time

KVASS = {
    "kvass f32": ["--math", "f32"],
    "kvass f32, q8_0 weights": ["--math", "f32", "--weights", "q8_0"],
    "kvass a8, q8_0 weights": ["--math", "a8", "--weights", "q8_0"],
}
PEERS = {"faster-whisper float32": "float32", "faster-whisper int8": "int8"}
SUMMARY = re.compile(r" in ([0-9.]+) s \(.*encoder ([0-9.]+) s in ([0-9]+) windows")


def peer(audio, model, threads, beam, kind):
    from faster_whisper import WhisperModel
    from faster_whisper.audio import decode_audio

    loaded = WhisperModel(model, device="cpu", compute_type=kind, cpu_threads=threads, local_files_only=True)
    encodes = []
    encode = loaded.encode

    def timed(features):
        begin = time.perf_counter()
        out = encode(features)
        encodes.append(time.perf_counter() - begin)
        return out

    loaded.encode = timed
    begin = time.perf_counter()
    segments, _ = loaded.transcribe(decode_audio(audio), beam_size=beam)
    text = "".join(segment.text for segment in segments)
    print(json.dumps({
        "seconds": time.perf_counter() - begin,
        "window": statistics.median(encodes),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "text": text,
    }))


def run(command):
    """The finished command and its peak memory in MiB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"compare: {' '.join(command)}: {err.strip()}")
    return out, err, time.perf_counter() - begin


def words(text):
    return re.sub(r"[^\w\s']", " ", text.lower()).split()


def word_errors(text, reference):
    """Edits between the words of two texts, over those of the second."""
    a, b = words(text), words(reference)
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
    return row[-1] / max(1, len(b))


def main():
    audio, model, threads, beam, rounds, kvass = sys.argv[1:7]
    found = {}
    for _ in range(int(rounds)):
        for name, flags in KVASS.items():
            out, err, _ = run([kvass, "transcribe", audio, "--model", model, "-t", threads, "--beam-size", beam,
                               "--output-format", "json", *flags])
            seconds, encoder, windows = SUMMARY.search(err).groups()
            mib = float(re.search(r"peak memory ([0-9.]+) MiB", err).group(1))
            found.setdefault(name, []).append(
                {"seconds": float(seconds), "window": float(encoder) / int(windows), "mib": mib,
                 "text": json.loads(out)["text"]})
        for name, kind in PEERS.items():
            out, _, _ = run([sys.executable, __file__, "--peer", audio, model, threads, beam, kind])
            found.setdefault(name, []).append(json.loads(out.splitlines()[-1]))
    median = lambda name, key: statistics.median(run[key] for run in found[name])
    base, reference = "faster-whisper int8", found["faster-whisper float32"][0]["text"]
    print(f"{audio}, {threads} threads, beam {beam}, medians of {rounds}")
    print(f"{'':28} {'total s':>9} {'x int8':>7} {'window s':>9} {'x int8':>7} {'peak MiB':>9} {'words off':>10}")
    for name in found:
        total, window = median(name, "seconds"), median(name, "window")
        print(f"{name:28} {total:9.3f} {median(base, 'seconds') / total:7.2f} {window:9.3f} "
              f"{median(base, 'window') / window:7.2f} {median(name, 'mib'):9.1f} "
              f"{100 * word_errors(found[name][0]['text'], reference):9.1f}%")


if __name__ == "__main__":
    if sys.argv[1] == "--peer":
        peer(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
    else:
        main()
