/* liquid-dsp's averaged spectrum, spgramcf, fed with the floats that it takes. */
#include "chain.h"

#include <liquid/liquid.h>

enum { BLOCK = 1 << 12 };

static spgramcf spectrum;
static float *floats;

static void prepare(int bins) {
  floats = aligned(2 * BLOCK * sizeof *floats);
  spectrum = spgramcf_create(bins, LIQUID_WINDOW_HANN, bins, bins / 2);
}

static void finish(void) {
  spgramcf_destroy(spectrum);
  free(floats);
}

static void chain(enum format f, const void *iq, int bins) {
  (void)bins;
  for (long s = 0; s < SAMPLES; s += BLOCK) {
    const char *block = (const char *)iq + s * sample_bytes[f];
    float *x = floats;
    switch (f) {
    case CU8:
      for (int i = 0; i < 2 * BLOCK; i++) x[i] = ((float)((const uint8_t *)block)[i] - 127.5f) * (1 / 127.5f);
      break;
    case CI16:
      for (int i = 0; i < 2 * BLOCK; i++) x[i] = ((const int16_t *)block)[i] * (1 / 32768.f);
      break;
    default: x = (float *)block;
    }
    spgramcf_write(spectrum, (liquid_float_complex *)x, BLOCK);
  }
}

int main(int argc, char **argv) {
  printf("# version liquid-dsp %s\n", liquid_libversion());
  return measure_all("liquid", argc, argv);
}
