/* The survey chain of VOLK's kernels, block by block, as GNU Radio's blocks call them, with FFTW for the transform. */
#include <fftw3.h>
#include <volk/constants.h>
#include <volk/volk.h>

#include "chain.h"

static float *window, *floats, *power, *sum;
static lv_32fc_t *in, *out;
static fftwf_plan plan;

static void prepare(int bins) {
  window = aligned(bins * sizeof *window);
  floats = aligned(2 * bins * sizeof *floats);
  power = aligned(bins * sizeof *power);
  sum = aligned(bins * sizeof *sum);
  in = aligned(bins * sizeof *in);
  out = aligned(bins * sizeof *out);
  plan = fftwf_plan_dft_1d(bins, (fftwf_complex *)in, (fftwf_complex *)out, FFTW_FORWARD, FFTW_MEASURE | FFTW_DESTROY_INPUT);
  hann_window(window, bins);
}

static void finish(void) {
  fftwf_destroy_plan(plan);
  free(window), free(floats), free(power), free(sum), free(in), free(out);
}

static void chain(enum format f, const void *iq, int bins) {
  for (long s = 0; s + bins <= SAMPLES; s += bins / 2) {
    const char *frame = (const char *)iq + s * sample_bytes[f];
    const float *x = floats;
    switch (f) {
    case CU8: /* VOLK has no kernel for unsigned codes; what others do: flip the top bit and add the half */
      for (int i = 0; i < 2 * bins; i++) floats[i] = (float)((const uint8_t *)frame)[i] - 127.5f;
      break;
    case CI16: volk_16i_s32f_convert_32f(floats, (const int16_t *)frame, 1, 2 * bins); break;
    default: x = (const float *)frame;
    }
    volk_32fc_32f_multiply_32fc(in, (const lv_32fc_t *)x, window, bins);
    fftwf_execute(plan);
    volk_32fc_magnitude_squared_32f(power, out, bins);
    volk_32f_x2_add_32f(sum, sum, power, bins);
  }
}

int main(int argc, char **argv) {
  printf("# version VOLK %s, %s\n", volk_version(), volk_get_machine());
  return measure_all("volk", argc, argv);
}
