package radio

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// Scene is the shared world of simulated receivers: who transmits what and where, and who listens. A waveform is a
// pure function of the seed, the emitter and absolute time, so that receivers in separate processes hear one sky.
type Scene struct {
	Seed     uint64                   `yaml:"seed"`
	Epoch    SceneTime                `yaml:"epoch"` // zero of schedules and of all phases; default 2000-01-01
	Noise    SceneNoise               `yaml:"noise"`
	Stations map[string]*SceneStation `yaml:"stations"`
	Emitters []SceneEmitter           `yaml:"emitters"`
	Path     ScenePath                `yaml:"path"`
}

// SceneNoise is what every receiver hears between the emissions, at a gain of 0 dB.
type SceneNoise struct {
	FloorDBFSHz float64 `yaml:"floor_dbfs_hz"`
}

// SceneStation is a receiver of a scene.
type SceneStation struct {
	Name     string        `yaml:"name"` // for people
	Position ScenePosition `yaml:"position"`
	Clock    SceneClock    `yaml:"clock"`
	GainDB   float64       `yaml:"gain_db"` // raises signals and noise alike
	Rate     configs.Hertz `yaml:"rate"`    // nominal; default 240k
	Format   SceneFormat   `yaml:"format"`  // default cu8
}

// SceneClock is what is wrong with a station's clock, and what the station says of it.
type SceneClock struct {
	OffsetS float64      `yaml:"offset_s"` // believed minus true time
	PPM     float64      `yaml:"ppm"`      // of the sample clock and of the tuner, which hang on one crystal
	SigmaS  float64      `yaml:"sigma_s"`  // a slow wander of this standard deviation, stated as uncertainty
	Quality SceneQuality `yaml:"quality"`  // default simulated
}

// SceneEmitter is a transmitter of a scene.
type SceneEmitter struct {
	ID         string          `yaml:"id"`
	Position   ScenePosition   `yaml:"position"`
	Center     configs.Hertz   `yaml:"center"`
	Modulation SceneModulation `yaml:"modulation"`
	PowerDBM   *float64        `yaml:"power_dbm"` // while on
	Schedule   *SceneSchedule  `yaml:"schedule"`  // absent: always on
}

// SceneModulation says what an emitter sends.
type SceneModulation struct {
	Kind      string        `yaml:"kind"`
	Deviation configs.Hertz `yaml:"deviation_hz"` // fm: peak; fsk: of each tone
	Baud      configs.Hertz `yaml:"baud"`
	Bandwidth configs.Hertz `yaml:"bandwidth_hz"`
}

// SceneSchedule turns an emitter on from epoch + start + k × every, for duration.
type SceneSchedule struct {
	Start    configs.Duration `yaml:"start"`
	Every    configs.Duration `yaml:"every"`    // 0: once
	Duration configs.Duration `yaml:"duration"` // 0: for ever, without every
}

// ScenePath is how signals weaken on their way.
type ScenePath struct {
	Model    string  `yaml:"model"`    // free_space (default) or log_distance
	Exponent float64 `yaml:"exponent"` // of log_distance, beyond 1 km
	ShadowDB float64 `yaml:"shadow_db"`
	// ReferenceDBFS is what 0 dBm at the antenna reads at a gain of 0 dB.
	ReferenceDBFS float64 `yaml:"reference_dbfs"`
}

// ScenePosition is latitude and longitude in degrees and height in metres (WGS 84).
type ScenePosition []float64

// SceneTime is an instant in RFC 3339.
type SceneTime time.Time

// UnmarshalText reads an instant.
func (t *SceneTime) UnmarshalText(text []byte) error {
	v, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fmt.Errorf("want a time such as 2026-01-01T00:00:00Z")
	}
	*t = SceneTime(v.UTC())
	return nil
}

// SceneFormat is a sample format by name.
type SceneFormat dsp.Format

// UnmarshalText reads cu8, cs8, cs16 or cf32.
func (f *SceneFormat) UnmarshalText(text []byte) error {
	v, err := dsp.ParseFormat(string(text))
	*f = SceneFormat(v)
	if err != nil {
		return fmt.Errorf("want cu8, cs8, cs16 or cf32")
	}
	return nil
}

// SceneQuality is a time quality by its short name.
type SceneQuality protocol.TimeQuality

// UnmarshalText reads gnss, ntp, simulated and the others of the wire.
func (q *SceneQuality) UnmarshalText(text []byte) error {
	v, err := protocol.ParseTimeQuality(string(text))
	*q = SceneQuality(v)
	if err != nil {
		return fmt.Errorf("want gnss, gnss_stale, beacon, ptp, ntp, system, arrival, recorded, simulated or unset")
	}
	return nil
}

// Limits of what a scene may ask.
const (
	minSceneRateHz = 1e3
	maxSceneRateHz = 100e6
	sceneRateHz    = 240e3 // default
	sceneFloor     = -100  // default noise floor in dBFS/Hz
)

// ReadScene reads a scene file. The error is a configs.Faults with every fault.
func ReadScene(path string) (*Scene, error) {
	s := newScene()
	if err := configs.Read(path, s); err != nil {
		return nil, err
	}
	return s, nil
}

// sceneFaults says what is wrong with a scene file as a source's Faults.
func sceneFaults(path string, err error) error {
	many, ok := errors.AsType[configs.Faults](err)
	if !ok {
		return unreadable("scene "+path, err)
	}
	all := make([]error, len(many))
	for i, f := range many {
		where := "scene " + f.File
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d:%d", where, f.Line, f.Column)
		}
		all[i] = &Fault{where, cmp.Or(f.Field, "text"), f.Value, f.Message}
	}
	return errors.Join(all...)
}

// DecodeScene is ReadScene for text at hand.
func DecodeScene(name string, text []byte) (*Scene, error) {
	s := newScene()
	if err := configs.Decode(name, text, s); err != nil {
		return nil, err
	}
	return s, nil
}

func newScene() *Scene {
	return &Scene{
		Epoch: SceneTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)),
		Noise: SceneNoise{FloorDBFSHz: sceneFloor},
		Path:  ScenePath{Model: "free_space", Exponent: 2},
	}
}

// Check sets the defaults of lists and reports what types alone cannot tell.
func (s *Scene) Check(report func(field, message string)) {
	bound := func(field string, v, least, most float64, unit string) {
		if !(v >= least && v <= most) {
			limits := fmt.Sprintf("%v to %v%s", least, most, unit)
			if unit == " Hz" {
				limits = formatHertz(least) + " to " + formatHertz(most)
			}
			report(field, "want "+limits)
		}
	}
	if t := time.Time(s.Epoch); t.Year() < 1970 || t.Year() > 2200 {
		report("epoch", "want a time from 1970 on")
	}
	bound("noise.floor_dbfs_hz", s.Noise.FloorDBFSHz, -250, 0, " dBFS/Hz")
	if len(s.Stations) == 0 {
		report("stations", "missing: name at least one station with its position")
	}
	for _, id := range slices.Sorted(maps.Keys(s.Stations)) {
		s.checkStation(id, report, bound)
	}
	seen := map[string]bool{}
	for i := range s.Emitters {
		field := fmt.Sprintf("emitters[%d]", i)
		e := &s.Emitters[i]
		if e.ID == "" {
			report(field+".id", "missing: give the emitter a name")
		} else if seen[e.ID] {
			report(field+".id", "used twice: the waveform hangs on it, so each needs its own")
		}
		seen[e.ID] = true
		e.check(field, report, bound)
	}
	if s.Path.Model != "free_space" && s.Path.Model != "log_distance" {
		report("path.model", "want free_space or log_distance")
	}
	bound("path.exponent", s.Path.Exponent, 1, 8, "")
	bound("path.shadow_db", s.Path.ShadowDB, 0, 40, " dB")
	bound("path.reference_dbfs", s.Path.ReferenceDBFS, -300, 300, " dBFS")
}

// bounds reports a number outside its limits.
type bounds func(field string, v, least, most float64, unit string)

func (s *Scene) checkStation(id string, report func(field, message string), bound bounds) {
	field := "stations." + id
	if err := protocol.ValidStation(id); err != nil {
		report(field, err.Error())
	}
	st := s.Stations[id]
	if st == nil {
		st = &SceneStation{}
		s.Stations[id] = st
	}
	st.Position.check(field, report, bound)
	if st.Rate == 0 {
		st.Rate = sceneRateHz
	}
	bound(field+".rate", float64(st.Rate), minSceneRateHz, maxSceneRateHz, " Hz")
	if st.Format == SceneFormat(dsp.FormatUnknown) {
		st.Format = SceneFormat(dsp.CU8)
	}
	if st.Clock.Quality == 0 {
		st.Clock.Quality = SceneQuality(protocol.TimeQuality_TIME_QUALITY_SIMULATED)
	}
	bound(field+".gain_db", st.GainDB, -200, 200, " dB")
	bound(field+".clock.offset_s", st.Clock.OffsetS, -86400, 86400, " s")
	bound(field+".clock.ppm", st.Clock.PPM, -1000, 1000, "")
	bound(field+".clock.sigma_s", st.Clock.SigmaS, 0, 86400, " s")
}

func (p ScenePosition) check(field string, report func(field, message string), bound bounds) {
	if len(p) != 2 && len(p) != 3 {
		report(field+".position", "want [latitude, longitude] or [latitude, longitude, height in metres]")
		return
	}
	bound(field+".position[0]", p[0], -90, 90, " degrees of latitude")
	bound(field+".position[1]", p[1], -180, 180, " degrees of longitude")
	if len(p) == 3 {
		bound(field+".position[2]", p[2], -1000, 4e7, " m")
	}
}

// modulationKinds are what an emitter may send.
var modulationKinds = []string{"tone", "fm", "ook", "fsk", "qpsk", "noise"}

func (e *SceneEmitter) check(field string, report func(field, message string), bound bounds) {
	e.Position.check(field, report, bound)
	if e.Center == 0 {
		report(field+".center", "missing: want a frequency such as 145.5M")
	} else {
		bound(field+".center", float64(e.Center), 1, maxHz, " Hz")
	}
	if e.PowerDBM == nil {
		report(field+".power_dbm", "missing: want the radiated power, such as 37 for 5 W")
	} else {
		bound(field+".power_dbm", *e.PowerDBM, -200, 150, " dBm")
	}
	m := &e.Modulation
	at := field + ".modulation"
	need := func(name string, v configs.Hertz) {
		if v == 0 {
			report(at+"."+name, fmt.Sprintf("missing: %s needs it", m.Kind))
			return
		}
		bound(at+"."+name, float64(v), 0.1, maxSceneRateHz, " Hz")
	}
	switch m.Kind {
	case "tone":
	case "fm":
		need("deviation_hz", m.Deviation)
	case "fsk":
		need("deviation_hz", m.Deviation)
		need("baud", m.Baud)
	case "ook", "qpsk":
		need("baud", m.Baud)
	case "noise":
		need("bandwidth_hz", m.Bandwidth)
	default:
		report(at+".kind", "want "+strings.Join(modulationKinds, ", "))
	}
	if c := e.Schedule; c != nil {
		at := field + ".schedule"
		bound(at+".start", c.Start.Seconds(), -3e9, 3e9, " s")
		if c.Every < 0 {
			report(at+".every", "want 0 or more")
		}
		switch {
		case c.Duration < 0:
			report(at+".duration", "want 0 or more")
		case c.Duration == 0 && c.Every > 0:
			report(at+".duration", "missing: say how long each emission lasts")
		case c.Every > 0 && c.Duration > c.Every:
			report(at+".duration", fmt.Sprintf("longer than every (%s)", c.Every))
		}
	}
}

// WGS 84, and the speed of light in vacuum.
const (
	earthRadiusM    = 6378137.0
	earthFlattening = 1 / 298.257223563
	lightMPerS      = 299792458.0
)

// ecef is a place in Earth-centred coordinates, in metres.
func (p ScenePosition) ecef() [3]float64 {
	lat, lon, h := p[0]*math.Pi/180, p[1]*math.Pi/180, 0.0
	if len(p) == 3 {
		h = p[2]
	}
	e2 := earthFlattening * (2 - earthFlattening)
	n := earthRadiusM / math.Sqrt(1-e2*math.Sin(lat)*math.Sin(lat))
	return [3]float64{
		(n + h) * math.Cos(lat) * math.Cos(lon),
		(n + h) * math.Cos(lat) * math.Sin(lon),
		(n*(1-e2) + h) * math.Sin(lat),
	}
}

// distance is the straight line between two places, in metres.
func (p ScenePosition) distance(q ScenePosition) float64 {
	a, b := p.ecef(), q.ecef()
	return math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2])
}

// referenceM is where log_distance leaves free space.
const referenceM = 1000

// lossDB is the path loss over a distance at a frequency, without shadowing.
func (p ScenePath) lossDB(distanceM, hz float64) float64 {
	free := func(d float64) float64 { return 20 * math.Log10(4*math.Pi*d*hz/lightMPerS) }
	d := math.Max(distanceM, 1)
	if p.Model == "log_distance" && d > referenceM {
		return free(referenceM) + 10*p.Exponent*math.Log10(d/referenceM)
	}
	return free(d)
}
