"""A flowgraph of GNU Radio's own blocks. Its threads are counted together. Overlap is a second branch half a frame later: there is no
block for it."""
import time

from gnuradio import blocks, fft, gr
from gnuradio.fft import window

import chain

SAMPLES = 1 << 21
SIGNAL = 1 << 16  # repeated


def source(top, format):
    """The blocks that make complex floats of a format."""
    iq = chain.noise(format, SIGNAL)
    if format == "cf32":
        head = blocks.head(gr.sizeof_gr_complex, SAMPLES)
        top.connect(blocks.vector_source_c(chain.complex64(format, iq).tolist(), True), head)
        return head
    if format == "ci16":
        head, to_complex = blocks.head(gr.sizeof_short, 2 * SAMPLES), blocks.interleaved_short_to_complex(False, False)
        top.connect(blocks.vector_source_s(iq.tolist(), True), head, to_complex)
        return to_complex
    head, split, to_complex = blocks.head(gr.sizeof_char, 2 * SAMPLES), blocks.deinterleave(gr.sizeof_float), blocks.float_to_complex()
    top.connect(blocks.vector_source_b(iq.tolist(), True), head, blocks.uchar_to_float(), blocks.add_const_ff(-127.5), split)
    top.connect((split, 0), (to_complex, 0))
    top.connect((split, 1), (to_complex, 1))
    return to_complex


def prepare(format, bins):
    def once():
        top = gr.top_block()
        samples = source(top, format)
        frames = SAMPLES // bins - 1
        for skip in (0, bins // 2):
            late = blocks.skiphead(gr.sizeof_gr_complex, skip)
            top.connect(
                samples, late, blocks.stream_to_vector(gr.sizeof_gr_complex, bins), fft.fft_vcc(bins, True, window.hann(bins), False, 1),
                blocks.complex_to_mag_squared(bins), blocks.integrate_ff(frames, bins), blocks.null_sink(gr.sizeof_float * bins),
            )
        began = time.process_time()
        top.run()
        return SAMPLES, time.process_time() - began

    return once


print(f"# version GNU Radio {gr.version()}")
chain.measure_all("gnuradio", 3, prepare)
