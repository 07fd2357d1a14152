/* What the peers in C share: the signal, the clock, the cases, and the lines they print:
 * name<TAB>unit<TAB>median<TAB>best, in million new samples per second of this thread's processor time.
 * What follows "# " is for the reader of the table. */
#include <complex.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 1 << 20, ROUNDS = 15, LINE = 64 };
#define LEAST_S 0.02 /* of a round */

enum format { CU8, CI16, CF32, FORMATS };
static const char *const format_names[FORMATS] = {"cu8", "ci16", "cf32"};
static const int sample_bytes[FORMATS] = {2, 4, 8};
static const int all_bins[] = {4096, 256, 512, 1024, 16384};

/* What a peer defines. */
static void prepare(int bins);
static void chain(enum format f, const void *iq, int bins); /* all frames of SAMPLES samples, bins/2 apart */
static void finish(void);

static double thread_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *aligned(size_t bytes) {
  void *p = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);
  if (!p) { perror("no memory"); exit(1); }
  memset(p, 0, bytes);
  return p;
}

/* hann_window is the periodic one. */
static inline void hann_window(float *w, int bins) {
  for (int i = 0; i < bins; i++) w[i] = 0.5 - 0.5 * cos(2 * M_PI * i / bins);
}

/* noise is half the scale of a format. */
static void *noise(enum format f) {
  void *iq = aligned((size_t)SAMPLES * sample_bytes[f]);
  uint32_t state = 12345;
  for (long i = 0; i < 2L * SAMPLES; i++) {
    state = state * 1664525u + 1013904223u;
    int v = (int)(state >> 16) - 32768;
    switch (f) {
    case CU8: ((uint8_t *)iq)[i] = 128 + v / 512; break;
    case CI16: ((int16_t *)iq)[i] = v / 2; break;
    default: ((float *)iq)[i] = v / 65536.f;
    }
  }
  return iq;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure(const char *name, enum format f, const void *iq, int bins) {
  double msps[ROUNDS];
  long samples = (SAMPLES / (bins / 2) - 1) * (long)(bins / 2);
  prepare(bins);
  chain(f, iq, bins);
  for (int r = 0; r < ROUNDS; r++) {
    double began = thread_seconds(), took;
    long done = 0;
    do {
      chain(f, iq, bins);
      done += samples;
      took = thread_seconds() - began;
    } while (took < LEAST_S);
    msps[r] = done / took / 1e6;
  }
  finish();
  qsort(msps, ROUNDS, sizeof *msps, ascending);
  printf("chain_%s_%s_%d\tMsps\t%.3f\t%.3f\n", name, format_names[f], bins, msps[ROUNDS / 2], msps[ROUNDS - 1]);
  fflush(stdout);
}

/* measure_all has every case, or the one that an argument names, as in cu8_4096. */
static int measure_all(const char *name, int argc, char **argv) {
  for (int f = 0; f < FORMATS; f++) {
    void *iq = noise(f);
    for (size_t b = 0; b < sizeof all_bins / sizeof *all_bins; b++) {
      char one[32];
      snprintf(one, sizeof one, "%s_%d", format_names[f], all_bins[b]);
      if (argc < 2 || !strcmp(argv[1], one)) measure(name, f, iq, all_bins[b]);
    }
    free(iq);
  }
  return 0;
}
