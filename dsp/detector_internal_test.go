package dsp

import "testing"

const broadBins = 64

func broadTrack(t *testing.T) (*Detector, *track) {
	t.Helper()
	d, err := NewDetector(DetectorConfig{Bins: broadBins})
	if err != nil {
		t.Fatal(err)
	}
	band := span{10, 50}
	b := &track{broad: true, lastSpan: band, box: [2]span{band, band}, sum: make([]float64, broadBins), count: make([]int32, broadBins)}
	d.open = append(d.open, b)
	return d, b
}

// A broad event that comes back before it was confirmed leaves its memory to the next, and its band too.
func TestDetector_AgainUnconfirmed(t *testing.T) {
	d, b := broadTrack(t)
	band := b.recent()
	d.again(0, 0)
	if len(d.open) != 1 || !d.open[0].broad || d.open[0].recent() != band {
		t.Errorf("%+v is open, want a broad event in %v", d.open, band)
	}
}

// What goes on in the band of a broad event that is over is no run of the event that gets its memory.
func TestDetector_TailOfBroadUnconfirmed(t *testing.T) {
	d, b := broadTrack(t)
	const r = slabRows + 1
	b.last, b.took, b.startKnown, b.endKnown = r, r, true, true
	d.runs = append(d.runs, run{low: 20, high: 22, seeds: 1, faded: true, track: b})
	if !d.age(b, r) {
		t.Fatal("it goes on")
	}
	d.close(0)
	if n := d.fresh(); d.runs[0].track == n {
		t.Error("the run is the next event's")
	}
}
