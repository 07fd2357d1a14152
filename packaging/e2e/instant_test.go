package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/cmplx"
	"net/http"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/dsp/fourier"

	"github.com/fulgidus/heimdall/packaging/demo"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

const light = 299792458.0 // m/s

// hidden is where the transmitter of the demo's scene stands.
var hidden = place{44.95, 8.12, 300}

// place is latitude and longitude in degrees, and metres above the ellipsoid.
type place struct{ lat, lon, height float64 }

// apart is the straight line between two places on WGS 84, in metres.
func (p place) apart(q place) float64 {
	a, b := p.ecef(), q.ecef()
	return math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2])
}

func (p place) ecef() [3]float64 {
	const a, f = 6378137.0, 1 / 298.257223563
	sinLat, cosLat := math.Sincos(p.lat * math.Pi / 180)
	sinLon, cosLon := math.Sincos(p.lon * math.Pi / 180)
	n := a / math.Sqrt(1-f*(2-f)*sinLat*sinLat)
	return [3]float64{(n + p.height) * cosLat * cosLon, (n + p.height) * cosLat * sinLon, (n*(1-f)*(1-f) + p.height) * sinLat}
}

// demoStations starts the seven stations of the demo's scene.
func (n *network) demoStations(t testing.TB) map[string]*program {
	t.Helper()
	scene := writeFile(t, "scene.yaml", string(demo.Scene()))
	agents := make(map[string]*program)
	for _, s := range demo.Stations() {
		agents[s.ID], _ = n.agent(t, s.ID, "sim:"+scene+"?station="+s.ID, "")
	}
	n.waitOnline(len(agents))
	return agents
}

// order posts an acquisition.
func (n *network) order(t testing.TB, body string) protocol.Acquisition {
	t.Helper()
	a, _, err := n.post(body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// post posts an acquisition and tells how long the answer took.
func (n *network) post(body string) (a protocol.Acquisition, took time.Duration, err error) {
	answer, took, err := n.send(http.DefaultClient, body)
	if err == nil {
		err = json.Unmarshal(answer, &a)
	}
	return a, took, err
}

// send posts an acquisition, and gives the answer and how long it took.
func (n *network) send(client *http.Client, body string) (answer []byte, took time.Duration, err error) {
	began := time.Now()
	resp, err := client.Post(n.api+"/api/v1/acquisitions", "application/json", strings.NewReader(body))
	if err != nil {
		return nil, time.Since(began), err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	took = time.Since(began)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("POST of an acquisition: %s: %s", resp.Status, answer)
	}
	return answer, took, err
}

// ended waits until an acquisition is in a final state.
func (n *network) ended(t testing.TB, id string, patience time.Duration) protocol.Acquisition {
	t.Helper()
	var a protocol.Acquisition
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := n.get("/api/v1/acquisitions/"+id, &a)
		switch {
		case err == nil && a.State != protocol.AcquisitionQueued && a.State != protocol.AcquisitionRunning:
			return a
		case time.Now().After(deadline):
			t.Fatalf("acquisition %s has not ended after %v: %v, %+v", id, patience, err, a)
		}
	}
}

// received is one recording as a reader gets it.
type received struct {
	protocol.Recording
	start   time.Time
	samples []complex128
}

// recording downloads a recording of 16-bit pairs.
func (n *network) recording(t testing.TB, id string) received {
	t.Helper()
	var h received
	if err := n.get("/api/v1/recordings/"+id, &h.Recording); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.start, err = time.Parse(time.RFC3339Nano, h.Start); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(n.api + "/api/v1/recordings/" + id + ".sigmf-data")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || h.Datatype != "ci16_le" || len(raw) != 4*int(h.Samples) {
		t.Fatalf("recording %s: %d bytes of %s, %v; want %d samples", id, len(raw), h.Datatype, err, h.Samples)
	}
	h.samples = make([]complex128, h.Samples)
	for i := range h.samples {
		re, im := int16(uint16(raw[4*i])|uint16(raw[4*i+1])<<8), int16(uint16(raw[4*i+2])|uint16(raw[4*i+3])<<8)
		h.samples[i] = complex(float64(re), float64(im))
	}
	return h
}

// spectrum is the discrete Fourier transform of a stretch.
func spectrum(x []complex128) []complex128 {
	return fourier.NewCmplxFFT(len(x)).Coefficients(nil, x)
}

// lag is by how many seconds y comes after x, which begin together: where the magnitude of their cross-correlation is
// greatest, within ±most. It is read off the cross-spectrum, so that it needs no grid of samples.
func lag(x, y []complex128, rateHz, most float64) float64 {
	a, b := spectrum(x), spectrum(y)
	cross := make([]complex128, len(a))
	for k := range a {
		cross[k] = a[k] * cmplx.Conj(b[k])
	}
	strength := func(tau float64) float64 {
		step := cmplx.Rect(1, -2*math.Pi*rateHz/float64(len(cross))*tau)
		var sum complex128
		turn := complex(1, 0)
		for k := range len(cross) / 2 { // upwards from 0, then downwards
			sum += cross[k] * cmplx.Conj(turn)
			turn *= step
		}
		turn = 1
		for k := range len(cross) / 2 {
			turn *= cmplx.Conj(step)
			sum += cross[len(cross)-1-k] * cmplx.Conj(turn)
		}
		return cmplx.Abs(sum)
	}
	best, at := -1.0, 0.0
	const grid = 20e-6
	for tau := -most; tau <= most; tau += grid {
		if v := strength(-tau); v > best {
			best, at = v, tau
		}
	}
	low, high := at-grid, at+grid
	for high-low > 1e-10 { // golden section
		const golden = 0.6180339887
		p, q := high-golden*(high-low), low+golden*(high-low)
		if strength(-p) > strength(-q) {
			high = q
		} else {
			low = p
		}
	}
	return (low + high) / 2
}

// lagOf is the lag of a pair of recordings, and its own uncertainty from how well the parts of the stretch agree.
func lagOf(x, y received) (seconds, sigma float64) {
	const parts, most = 8, 400e-6
	var sum, squares float64
	size := len(x.samples) / parts
	for p := range parts {
		v := lag(x.samples[p*size:(p+1)*size], y.samples[p*size:(p+1)*size], x.SampleRateHz, most)
		sum, squares = sum+v, squares+v*v
	}
	mean := sum / parts
	return mean, math.Sqrt(math.Max(0, squares/parts-mean*mean) / (parts - 1))
}

// sigmas is how far a delay may be from the geometry's, of which its uncertainty is one. Six delays are looked at in a run: three
// would be passed by chance in one run of sixty, as many as these in one of twenty thousand.
const sigmas = 4.5

// TestAcquisition_SameInstant: seven stations record the same five seconds to one sample, and what they recorded shows the
// delays of the transmitter's paths to them.
func TestAcquisition_SameInstant(t *testing.T) {
	n := newNetwork(t, servers.Postgres(t))
	n.demoStations(t)
	a := n.order(t, `{"frequency_hz": 145500000, "duration_s": 5, "bandwidth_hz": 12500, "iq": true}`)
	a = n.ended(t, a.ID, time.Minute)
	recordings := make(map[string]received)
	for _, s := range a.Stations {
		if s.State != protocol.StationDone || s.Recording == "" {
			t.Fatalf("station %s: %+v", s.Station, s)
		}
		recordings[s.Station] = n.recording(t, s.Recording)
	}
	stations := demo.Stations()
	asked, err := time.Parse(time.RFC3339Nano, a.StartTime)
	if err != nil {
		t.Fatal(err)
	}
	reference := demo.Stations()[2]
	y := recordings[reference.ID]
	for _, s := range stations {
		x := recordings[s.ID]
		sample := 1 / x.SampleRateHz
		if late := x.start.Sub(asked).Seconds(); late < 0 || late > sample+x.TimeUncertaintyS || x.LostSamples != 0 ||
			math.Abs(float64(x.Samples)*sample-5) > sample {
			t.Errorf("%s: starts %.9f s after the instant asked for, with %d samples at %.3f Hz, %d lost", s.ID, late, x.Samples, x.SampleRateHz, x.LostSamples)
		}
		if s.ID == reference.ID {
			continue
		}
		got, sigma := lagOf(y, x)
		got += x.start.Sub(y.start).Seconds()
		want := (placeOf(s).apart(hidden) - placeOf(reference).apart(hidden)) / light
		allowed := sigmas * math.Sqrt(x.TimeUncertaintyS*x.TimeUncertaintyS+y.TimeUncertaintyS*y.TimeUncertaintyS+sigma*sigma)
		row := fmt.Sprintf("%s hears it %+.3f µs after %s, by geometry %+.3f µs (clocks %.0f and %.0f ns, correlation %.0f ns)",
			s.ID, got*1e6, reference.ID, want*1e6, x.TimeUncertaintyS*1e9, y.TimeUncertaintyS*1e9, sigma*1e9)
		t.Log(row)
		if math.Abs(got-want) > allowed {
			t.Errorf("%s: more than %.0f ns apart", row, allowed*1e9)
		}
	}
}

func placeOf(s demo.Station) place { return place{s.LatitudeDeg, s.LongitudeDeg, s.HeightM} }
