"""scipy.signal.welch on complex64, its mean left in: the shortest way to an averaged spectrum in Python."""
import time

import scipy
from scipy import signal

import chain

SAMPLES = 1 << 19  # of a call


def prepare(format, bins):
    iq = chain.noise(format, SAMPLES)

    def once():
        began, calls = time.thread_time(), 0
        while calls == 0 or time.thread_time() - began < 0.02:
            signal.welch(chain.complex64(format, iq), window="hann", nperseg=bins, noverlap=bins // 2, return_onesided=False, detrend=False)
            calls += 1
        return calls * SAMPLES, time.thread_time() - began

    return once


print(f"# version scipy {scipy.__version__}")
chain.measure_all("scipy", 7, prepare)
