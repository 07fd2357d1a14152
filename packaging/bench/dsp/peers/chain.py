"""What the peers in Python share: the signal, the cases, and the lines they print, as chain.h has them."""
import statistics
import sys

import numpy as np

BINS = (4096, 256, 512, 1024, 16384)
FORMATS = ("cu8", "ci16", "cf32")


def noise(format, samples):
    """Half the scale of a format, I and Q in turn."""
    v = np.random.default_rng(1).uniform(-0.5, 0.5, 2 * samples)
    return {
        "cu8": lambda: np.round(v * 127.5 + 127.5).astype(np.uint8),
        "ci16": lambda: np.round(v * 32768).astype(np.int16),
        "cf32": lambda: v.astype(np.float32),
    }[format]()


def complex64(format, iq):
    """Samples of full scale 1, with as few passes over them as numpy can."""
    if format == "cf32":
        return iq.view(np.complex64)
    x = iq.astype(np.float32)
    if format == "cu8":
        x -= 127.5
    x *= 1 / 127.5 if format == "cu8" else 1 / 32768
    return x.view(np.complex64)


def measure_all(name, rounds, prepare):
    """prepare(format, bins) returns what runs once and returns samples and the seconds of processor that they took. Measures every
    case, or those that arguments name."""
    for format in FORMATS:
        for bins in BINS:
            if len(sys.argv) > 1 and f"{format}_{bins}" not in sys.argv[1:]:
                continue
            once = prepare(format, bins)
            once()
            msps = [n / seconds / 1e6 for n, seconds in (once() for _ in range(rounds))]
            print(f"chain_{name}_{format}_{bins}\tMsps\t{statistics.median(msps):.3f}\t{max(msps):.3f}", flush=True)
