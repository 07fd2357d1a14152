package archive

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// mostAnnotations bounds the metadata of a capture of a busy band. The loudest stay.
const mostAnnotations = 2000

// metadata writes the SigMF metadata of a checked capture. The same capture gives the same bytes.
func metadata(c *Capture) ([]byte, error) {
	m := c.Reply.GetCapture()
	meta, err := m.SigMF(c.Station)
	if err != nil {
		return nil, reject("manifest: %v", err)
	}
	meta.Global.Acquisition = c.Reply.GetAcquisition()
	meta.Global.Collection = c.Reply.GetAcquisition() // as `export` names the file that groups its stations
	meta.Global.Description = fmt.Sprintf("%s at %.6f MHz", c.Station, m.GetCenterHz()/1e6)
	count := m.GetBytes() / sampleBytes(m.GetFormat())
	meta.Captures = withSamples(meta.Captures, count)
	place(meta, c.Position)
	meta.Annotations = annotations(c, stretch{captures: meta.Captures, count: count, rateHz: m.GetSampleRateHz()})
	if err := meta.Validate(); err != nil {
		return nil, reject("manifest: %v", err)
	}
	text, err := meta.Encode()
	if err != nil {
		return nil, reject("manifest: %v", err)
	}
	return text, nil
}

// withSamples leaves out segments without samples: of two that begin at the same one, the later is true.
func withSamples(captures []protocol.SigMFCapture, count uint64) []protocol.SigMFCapture {
	var kept []protocol.SigMFCapture
	for i, c := range captures {
		last := i == len(captures)-1
		if !last && captures[i+1].SampleStart == c.SampleStart || c.SampleStart >= count {
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// place writes where the station is, as it publishes it: for the whole, and for each segment, where some readers look.
func place(meta *protocol.SigMF, p *protocol.Position) {
	if p == nil {
		return
	}
	var height *float64
	if p.HeightM != 0 { // absent is unknown
		height = &p.HeightM
	}
	point := protocol.NewGeoPoint(p.LatitudeDeg, p.LongitudeDeg, height)
	meta.Global.Geolocation = point
	for i := range meta.Captures {
		meta.Captures[i].Geolocation = point
	}
	meta.Global.GeolocationPrecision = p.Precision
}

// stretch turns times into samples of the data file.
type stretch struct {
	captures []protocol.SigMFCapture
	count    uint64
	rateHz   float64
}

// sample is the first sample at or after a time; the first of the next segment when the time fell into a gap, and
// count when it is later than all.
func (s *stretch) sample(ns int64) uint64 {
	for i, c := range s.captures {
		end := s.count
		if i+1 < len(s.captures) {
			end = s.captures[i+1].SampleStart
		}
		// A rounding error of a millionth of a sample must not lead to the next one.
		offset := math.Ceil(float64(ns-c.Datetime.UnixNano())/1e9*s.rateHz - 1e-6)
		if offset <= 0 {
			return c.SampleStart
		}
		if offset < float64(end-c.SampleStart) {
			return c.SampleStart + uint64(offset)
		}
	}
	return s.count
}

// annotations are boxes around the detections inside the capture, and around the strongest emission of the whole.
func annotations(c *Capture, s stretch) []protocol.SigMFAnnotation {
	m := c.Reply.GetCapture()
	low, high := m.GetCenterHz()-m.GetSampleRateHz()/2, m.GetCenterHz()+m.GetSampleRateHz()/2
	boxes := strongest(c, s.count)
	for i := range boxes {
		boxes[i].UUID = annotationID(c, boxes[i].Label)
	}
	for _, record := range latest(c.Detections) {
		d := record.GetDetection()
		if r := record.GetReceiver(); r != "" && m.GetReceiver() != "" && r != m.GetReceiver() {
			continue // another radio's levels and clock
		}
		if d.GetLowHz() >= high || d.GetHighHz() <= low || !(d.GetDurationS() >= 0) {
			continue
		}
		first := s.sample(record.GetTime())
		past := s.sample(record.GetTime() + int64(min(d.GetDurationS(), 1e9)*1e9))
		if past <= first {
			continue
		}
		box := protocol.SigMFAnnotation{
			SampleStart: first, SampleCount: new(past - first),
			LowHz: new(max(d.GetLowHz(), low)), HighHz: new(min(d.GetHighHz(), high)),
			Label: label(d.GetCenterHz()), Generator: m.GetRecorder(), Comment: "detection " + detectionID(record),
			UUID: annotationID(c, detectionID(record)),
		}
		if d.SnrDb != nil {
			box.SNRDB = decibels(d.GetSnrDb())
		}
		if d.PowerDbfs != nil {
			box.PowerDBFS = decibels(d.GetPowerDbfs())
		}
		boxes = append(boxes, box)
	}
	slices.SortStableFunc(boxes, func(a, b protocol.SigMFAnnotation) int { return -cmp.Compare(loudness(a), loudness(b)) })
	boxes = boxes[:min(len(boxes), mostAnnotations)]
	slices.SortStableFunc(boxes, func(a, b protocol.SigMFAnnotation) int { return cmp.Compare(a.SampleStart, b.SampleStart) })
	return boxes
}

func loudness(a protocol.SigMFAnnotation) float64 {
	if a.PowerDBFS == nil {
		return math.Inf(-1)
	}
	return *a.PowerDBFS
}

// strongest is the band that the measurement of the capture found, if it rose above the noise.
func strongest(c *Capture, count uint64) []protocol.SigMFAnnotation {
	m := c.Reply.GetCapture().GetMeasurement()
	if m == nil || m.OccupiedLowHz == nil || m.OccupiedHighHz == nil || m.SnrDb == nil || m.GetOccupiedLowHz() > m.GetOccupiedHighHz() {
		return nil
	}
	box := protocol.SigMFAnnotation{
		SampleCount: &count, LowHz: m.OccupiedLowHz, HighHz: m.OccupiedHighHz, Label: "strongest",
		Comment: "99 % occupied bandwidth of the averaged spectrum", Generator: c.Reply.GetCapture().GetRecorder(), SNRDB: decibels(m.GetSnrDb()),
	}
	if m.PeakDbfs != nil {
		box.PowerDBFS = decibels(m.GetPeakDbfs())
	}
	return []protocol.SigMFAnnotation{box}
}

// latest keeps of each detection the record that knows most of it: the longest.
func latest(records []*protocol.Record) []*protocol.Record {
	byID := map[string]*protocol.Record{}
	var order []string
	for _, r := range records {
		if r.GetDetection() == nil {
			continue
		}
		id := detectionID(r)
		if byID[id] == nil {
			order = append(order, id)
		}
		if old := byID[id]; old == nil || old.GetDetection().GetDurationS() < r.GetDetection().GetDurationS() {
			byID[id] = r
		}
	}
	slices.Sort(order)
	kept := make([]*protocol.Record, len(order))
	for i, id := range order {
		kept[i] = byID[id]
	}
	return kept
}

// detectionID is the id of a detection; its first record is itself the id.
func detectionID(r *protocol.Record) string {
	if id := r.GetDetection().GetDetectionId(); id != "" {
		return id
	}
	return fmt.Sprintf("%s-%x-%d", r.GetStation(), r.GetSpool(), r.GetSeq())
}

// decibels is the number that is written like the short one: 12.3 and not 12.300000190734863.
func decibels(short float32) *float64 {
	long, err := strconv.ParseFloat(strconv.FormatFloat(float64(short), 'g', -1, 32), 64)
	if err != nil { // what was written can be read
		long = float64(short)
	}
	return &long
}

// annotationID is a UUID of version 8 made of what is annotated: the same capture always gives the same metadata.
func annotationID(c *Capture, what string) string {
	id := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", c.Station, c.Reply.GetCapture().GetId(), what))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// label is short enough for viewers that show labels inside the box.
func label(centerHz float64) string { return fmt.Sprintf("%.4f MHz", centerHz/1e6) }

func timeQuality(q protocol.TimeQuality) string {
	if q == protocol.TimeQuality_TIME_QUALITY_UNSPECIFIED {
		return "" // unknown, which is not the same as unset
	}
	return q.Short()
}

// wireTime writes a time as everywhere on the wire.
func wireTime(ns int64) string { return protocol.FormatTime(time.Unix(0, ns)) }
