package api

import (
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// CaptureRequest is the body of a retro-capture around a detection; every member may be left out.
type CaptureRequest struct {
	BeforeS     *float64 `json:"before_s,omitempty"` // ahead of the detection; absent: 0.5
	AfterS      *float64 `json:"after_s,omitempty"`  // behind what is known of it; absent: 0.5
	BandwidthHz *float64 `json:"bandwidth_hz,omitempty"`
	Stations    []string `json:"stations,omitempty"`
	IQ          *bool    `json:"iq,omitempty"` // absent: true
	Label       string   `json:"label,omitempty"`
}

const (
	// aroundS is what detect.hold keeps on either side of a detection for minutes.
	aroundS = 0.5
	// mostAroundS is more than most histories hold.
	mostAroundS = 300.0

	aroundAdvice  = "write 0 to 300 seconds, such as 0.5 or \"500ms\""
	captureMember = "before_s, after_s, bandwidth_hz, stations, iq, label"
)

func captureRoute() route {
	return route{
		method: "POST", path: "/api/v1/detections/{id}/capture", id: "captureDetection", tag: "acquisitions", role: protocol.RoleOperator,
		summary: "Asks every station for the IQ around a detection",
		detail: "An acquisition whose start lies in the past: at the detection's centre, from before_s (0.5) ahead of it to after_s (0.5) behind " +
			"what is known of it; one that is still open ends with what has been heard. Stations keep half a second around their own " +
			"detections for minutes (detect.hold), and all else as far as their histories reach; one that has nothing of it says so. Without " +
			"bandwidth_hz it is the receivers' whole passband, without stations all that take orders. IQ is recorded unless iq is false; what " +
			"would be more than a station's limit of IQ is shortened at its end. The body may be left out.",
		body: &content{types: []string{jsonType}, schema: "CaptureRequest", example: exampleCaptureRequest()}, bodyless: true,
		answer: content{types: []string{jsonType}, schema: "Acquisition", example: exampleAcquired()}, status: http.StatusAccepted,
		problems: []problemKind{badBody, badField, notFound, tooSlow, tooLarge, wrongType, crossOrigin}, serve: (*server).captureDetection,
	}
}

func (s *server) captureDetection(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, _, err := protocol.ParseDetectionID(id); err != nil {
		return notFound.with("no detection can have this id",
			fieldError("id", id, "write a detection_id such as "+exampleDetection+"; GET /api/v1/detections lists them"))
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	asked, err := parseCapture(body)
	if err != nil {
		return err
	}
	stored, err := one(r.Context(), "detection", id, s.Reader.Detection)
	if err != nil {
		return err
	}
	if !callerOf(r.Context()).sees(stored.Record.GetStation()) {
		return absent(fs.ErrNotExist, "detection", id)
	}
	request, err := around(id, stored.Record, asked)
	if err != nil {
		return err
	}
	if err := s.within(r.Context(), &request); err != nil {
		return err
	}
	made, err := s.Commander.CreateFitting(r.Context(), request)
	return s.acquired(w, r, actCapture, made, err)
}

// parseCapture reads the body of a capture; nothing at all is the usual one.
func parseCapture(body []byte) (CaptureRequest, error) {
	var c CaptureRequest
	if len(body) == 0 {
		return c, nil
	}
	o, err := parseObject(body, `{"bandwidth_hz": 25000}`)
	if err != nil {
		return c, err
	}
	c.BeforeS, c.AfterS = o.around("before_s"), o.around("after_s")
	if hz := o.quantity("bandwidth_hz", false, positiveAdvice, parsePositive); hz > 0 {
		c.BandwidthHz = &hz
	}
	c.Stations = o.stations("stations")
	o.read("iq", &c.IQ, "write true or false")
	c.Label = o.label("label")
	o.refuseOthers(captureMember)
	if len(o.faults) > 0 {
		return c, badField.faulty(o.faults)
	}
	return c, nil
}

// around reads how far a capture reaches beyond its detection, which may be 0; nil when absent or wrong.
func (o *object) around(name string) *float64 {
	value, ok := o.take(name)
	if !ok {
		return nil
	}
	text, ok := quantityText(value)
	seconds, readable := parseSeconds(text)
	if !ok || !readable || seconds < 0 || seconds > mostAroundS {
		o.fault(name, string(value), aroundAdvice)
		return nil
	}
	return &seconds
}

// around is the acquisition that captures a detection.
func around(id string, rec *protocol.Record, asked CaptureRequest) (protocol.AcquisitionRequest, error) {
	detection := rec.GetDetection()
	centerHz := detection.GetCenterHz()
	if centerHz <= 0 {
		return protocol.AcquisitionRequest{}, badField.with("the detection does not say where in the spectrum it was",
			fieldError("id", id, "choose a detection with a center_hz, or order an acquisition of its time with POST /api/v1/acquisitions"))
	}
	before, after := aroundS, aroundS
	if asked.BeforeS != nil {
		before = *asked.BeforeS
	}
	if asked.AfterS != nil {
		after = *asked.AfterS
	}
	request := protocol.AcquisitionRequest{
		FrequencyHz: centerHz, DurationS: before + max(detection.GetDurationS(), 0) + after, BandwidthHz: asked.BandwidthHz,
		StartTime: protocol.FormatTime(time.Unix(0, rec.GetTime()).Add(-time.Duration(before * float64(time.Second)))),
		Stations:  asked.Stations, IQ: asked.IQ == nil || *asked.IQ, Label: asked.Label,
	}
	if request.DurationS < protocol.MinAcquisitionS {
		return request, badField.with("next to nothing is left of the detection", fieldError("after_s", fmt.Sprint(after),
			fmt.Sprintf("write more: before_s, the detection's %v s as far as they are known, and after_s must be %v s together", max(detection.GetDurationS(), 0), protocol.MinAcquisitionS)))
	}
	if request.Label == "" {
		request.Label = "detection " + id
	}
	return request, nil
}

func exampleCaptureRequest() CaptureRequest {
	hz := 25_000.0
	return CaptureRequest{BandwidthHz: &hz, Label: "burst on the calling channel"}
}
