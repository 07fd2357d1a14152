package exposition_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/protocol/exposition"
)

func TestHistogram_CountsUpToEachBound(t *testing.T) {
	h := exposition.NewHistogram(1, 2)
	for _, v := range []float64{-1, 1, 1.5, 2, 3, math.NaN()} {
		h.Observe(v)
	}
	var got strings.Builder
	if err := exposition.Write(&got, []exposition.Family{exposition.Distribution("d_seconds", "times", h.Sample("kind", "x"))}); err != nil {
		t.Fatal(err)
	}
	want := `# HELP d_seconds times
# TYPE d_seconds histogram
d_seconds_bucket{kind="x",le="1"} 2
d_seconds_bucket{kind="x",le="2"} 4
d_seconds_bucket{kind="x",le="+Inf"} 5
d_seconds_sum{kind="x"} 6.5
d_seconds_count{kind="x"} 5
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}
