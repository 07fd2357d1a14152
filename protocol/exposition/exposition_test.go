package exposition_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol/exposition"
)

func TestWrite_Format(t *testing.T) {
	var got strings.Builder
	err := exposition.Write(&got, []exposition.Family{
		exposition.Gauge("z_ratio", "a \\ and\na line", exposition.Sample{Value: 0.25, Labels: []exposition.Label{{Name: "station", Value: "a\"b\\c\nd\xff"}, {Name: "kind", Value: "x"}}}),
		{Name: "h_seconds", Type: exposition.HistogramType, Help: "times", Samples: []exposition.Sample{
			{Value: 1.5, Buckets: []exposition.Bucket{{UpperBound: 0.1, Count: 2}, {UpperBound: math.Inf(1), Count: 3}}, Labels: []exposition.Label{{Name: "route", Value: "r"}}},
			{Value: 2, Buckets: []exposition.Bucket{{UpperBound: math.Inf(1), Count: 1}}},
		}},
		exposition.Counter("a_total", "first half", exposition.Sample{Value: 1e15}),
		exposition.Counter("a_total", "second half", exposition.Sample{Value: math.Inf(-1), Labels: []exposition.Label{{Name: "x", Value: "y"}}}, exposition.Sample{Value: math.NaN()}),
		exposition.Counter("empty_total", "nothing yet"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `# HELP a_total first half
# TYPE a_total counter
a_total 1e+15
a_total{x="y"} -Inf
a_total NaN
# HELP empty_total nothing yet
# TYPE empty_total counter
# HELP h_seconds times
# TYPE h_seconds histogram
h_seconds_bucket{route="r",le="0.1"} 2
h_seconds_bucket{route="r",le="+Inf"} 3
h_seconds_sum{route="r"} 1.5
h_seconds_count{route="r"} 3
h_seconds_bucket{le="+Inf"} 1
h_seconds_sum 2
h_seconds_count 1
# HELP z_ratio a \\ and\na line
# TYPE z_ratio gauge
z_ratio{station="a\"b\\c\nd�",kind="x"} 0.25
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestWrite_RefusesNamesThatCannotBeRead(t *testing.T) {
	for _, f := range []exposition.Family{
		exposition.Counter("", ""), exposition.Counter("1x", ""), exposition.Counter("a-b", ""),
		exposition.Counter("a", "", exposition.Sample{Labels: []exposition.Label{{Name: "b c", Value: ""}}}),
	} {
		if err := exposition.Write(new(strings.Builder), []exposition.Family{f}); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
	full := failing{}
	if err := exposition.Write(full, []exposition.Family{exposition.Counter("a", "")}); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
