/* The survey chain as one writes it with FFTW in C: conversion and window in one loop, a transform that was measured, |X|^2 and
 * sum in another. */
#include <fftw3.h>

#include "chain.h"

static float *window, *sum; /* the window twice each, for I and Q, over the scale of the format */
static float *in, *out;
static fftwf_plan plan;

/* tell_plan prints which of FFTW's instruction sets a plan uses: its codelets are named like "t2fv_64_avx". */
static void tell_plan(int bins) {
  char *text = fftwf_sprint_plan(plan), *codelet = text, seen[256] = "";
  while ((codelet = strchr(codelet, '"'))) {
    char *end = strchr(++codelet, '"'), *set = codelet;
    for (int underscores = 0; set < end && underscores < 2; set++) underscores += *set == '_';
    char word[64];
    snprintf(word, sizeof word, " %.*s", (int)(end - set), set < end ? set : "none");
    if (!strstr(seen, word)) strncat(seen, word, sizeof seen - strlen(seen) - 1);
    codelet = end + 1;
  }
  printf("# plan %d%s\n", bins, seen);
  fftwf_free(text);
}

static void prepare(int bins) {
  window = aligned(2 * bins * sizeof *window);
  sum = aligned(bins * sizeof *sum);
  in = aligned(2 * bins * sizeof *in);
  out = aligned(2 * bins * sizeof *out);
  plan = fftwf_plan_dft_1d(bins, (fftwf_complex *)in, (fftwf_complex *)out, FFTW_FORWARD, FFTW_MEASURE | FFTW_DESTROY_INPUT);
  hann_window(window, bins);
  for (int i = bins - 1; i >= 0; i--) window[2 * i] = window[2 * i + 1] = window[i];
  tell_plan(bins);
}

static void finish(void) {
  fftwf_destroy_plan(plan);
  free(window), free(sum), free(in), free(out);
}

/* The window has no scale in it: the sum of |X|^2 can take it, once for all. */
#define FRAMES(type, value)                                                                        \
  for (long s = 0; s + bins <= SAMPLES; s += bins / 2) {                                           \
    const type *restrict code = (const type *)iq + 2 * s;                                          \
    const float *restrict w = __builtin_assume_aligned(window, LINE);                              \
    float *restrict x = __builtin_assume_aligned(in, LINE);                                        \
    for (int i = 0; i < 2 * bins; i++) x[i] = (value) * w[i];                                      \
    fftwf_execute(plan);                                                                           \
    const float *restrict y = __builtin_assume_aligned(out, LINE);                                 \
    float *restrict acc = __builtin_assume_aligned(sum, LINE);                                     \
    for (int k = 0; k < bins; k++) acc[k] += y[2 * k] * y[2 * k] + y[2 * k + 1] * y[2 * k + 1];    \
  }

static void chain(enum format f, const void *iq, int bins) {
  switch (f) {
  case CU8: FRAMES(uint8_t, (float)code[i] - 127.5f); break;
  case CI16: FRAMES(int16_t, (float)code[i]); break;
  default: FRAMES(float, code[i]);
  }
}

int main(int argc, char **argv) {
  printf("# version %s\n", fftwf_version);
  return measure_all("fftw", argc, argv);
}
