package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// OldAcquire is the body of POST /api/v1/acquisition/acquire.
type OldAcquire struct {
	FrequencyMHz    float64 `json:"frequency_mhz"`
	DurationSeconds float64 `json:"duration_seconds"`
	StartTime       *string `json:"start_time,omitempty"` // without an offset it is UTC
	WebSDRs         []int   `json:"websdrs,omitempty"`    // numbers of stations; absent: all in use
}

// OldTask is its answer.
type OldTask struct {
	TaskID       string  `json:"task_id"` // the acquisition's id
	Status       string  `json:"status"`
	Message      string  `json:"message"`
	FrequencyMHz float64 `json:"frequency_mhz"`
	WebSDRsCount int     `json:"websdrs_count"`
}

// OldStatus is the answer of GET /api/v1/acquisition/status/{task_id}.
type OldStatus struct {
	TaskID                string     `json:"task_id"`
	Status                string     `json:"status"`
	Progress              float64    `json:"progress"` // 0..100
	Message               string     `json:"message"`
	MeasurementsCollected int        `json:"measurements_collected"`
	Errors                []string   `json:"errors"` // null while nothing has ended
	Result                *OldResult `json:"result"` // null but for SUCCESS
}

// OldResult is what an acquisition gave.
type OldResult struct {
	TaskID            string           `json:"task_id"`
	Status            string           `json:"status"`
	Measurements      []OldMeasurement `json:"measurements"`
	MeasurementsCount int              `json:"measurements_count"`
	Errors            []string         `json:"errors"`
	StartTime         string           `json:"start_time"`
	EndTime           string           `json:"end_time"` // of the stretch that was asked for
	FrequencyMHz      float64          `json:"frequency_mhz"`
	DurationSeconds   float64          `json:"duration_seconds"`
}

// OldMeasurement is what one station gave. What is not known is null.
type OldMeasurement struct {
	WebSDRID      int        `json:"websdr_id"`
	FrequencyMHz  float64    `json:"frequency_mhz"`
	SampleRateKHz *float64   `json:"sample_rate_khz"`
	SamplesCount  *uint64    `json:"samples_count"`
	TimestampUTC  string     `json:"timestamp_utc"` // of the first sample
	Metrics       OldMetrics `json:"metrics"`
	IQDataPath    *string    `json:"iq_data_path"` // the address of the recording's samples here
}

// OldMetrics are in dBm where the receiver is calibrated, and else null.
type OldMetrics struct {
	SNRDB             *float64 `json:"snr_db"`
	PSDDBM            *float64 `json:"psd_dbm"` // mean density in dBm per Hz
	FrequencyOffsetHz *float64 `json:"frequency_offset_hz"`
	SignalPowerDBM    *float64 `json:"signal_power_dbm"`
	NoisePowerDBM     *float64 `json:"noise_power_dbm"`
}

// sentNow is how old a start may be and still mean at once: clients of the former service send the time of sending.
const sentNow = 2 * time.Second

func oldAcquisitionRoutes() []route {
	return []route{
		{
			method: "POST", path: oldPath + "acquire", id: "oldAcquire", summary: "Asks stations for the same stretch of time", role: protocol.RoleOperator,
			detail: "Records IQ at 12.5 kHz (10 kHz wide). A start_time of the last two seconds means at once, an earlier one is taken from the " +
				"stations' histories. Use POST /api/v1/acquisitions.",
			body:     &content{types: []string{jsonType}, schema: "OldAcquire", example: OldAcquire{FrequencyMHz: 145.5, DurationSeconds: 10, WebSDRs: []int{1}}},
			answer:   content{types: []string{jsonType}, schema: "OldTask", example: oldTask(exampleAcquisition, 145.5, 1)},
			problems: []problemKind{badField, tooLarge, wrongType, crossOrigin}, serve: (*server).oldAcquire,
		},
		{
			method: "GET", path: oldPath + "status/{id}", id: "oldStatus", summary: "How an acquisition gets on, and what it gave", detail: "Use /api/v1/acquisitions/{id}.", role: protocol.RoleViewer,
			answer: content{types: []string{jsonType}, schema: "OldStatus", example: exampleOldStatus()}, problems: []problemKind{notFound}, serve: (*server).oldStatus,
		},
	}
}

func oldTask(id string, mhz float64, count int) OldTask {
	return OldTask{
		TaskID: id, Status: "PENDING", Message: fmt.Sprintf("Acquisition task queued for %d WebSDR receivers", count), FrequencyMHz: mhz, WebSDRsCount: count,
	}
}

func (s *server) oldAcquire(w http.ResponseWriter, r *http.Request) error {
	o, err := readOld(w, r, `{"frequency_mhz": 145.5, "duration_seconds": 10}`)
	if err != nil {
		return err
	}
	all, err := s.websdrs(r.Context())
	if err != nil {
		return err
	}
	request := o.oldAcquisition(s.Now(), all)
	if len(o.faults) > 0 {
		return badField.faulty(o.faults)
	}
	made, err := s.Commander.Create(r.Context(), request)
	if faults, ok := errors.AsType[protocol.FieldErrors](err); ok {
		return badField.faulty(oldNames(faults))
	}
	if err != nil {
		return fmt.Errorf("create acquisition: %w", err)
	}
	s.noteDone(r, actAcquire, made.ID, ordered(made))
	return send(w, r, http.StatusOK, oldTask(made.ID, request.FrequencyHz/1e6, len(made.Stations)))
}

// oldAcquisition reads an acquisition in the former service's words.
func (o *object) oldAcquisition(now time.Time, all []webSDR) protocol.AcquisitionRequest {
	const (
		frequencyAdvice = "write a frequency in MHz above 0 and up to 1e6, such as 145.5"
		durationAdvice  = "write seconds from 0.001 to below 300, such as 10"
	)
	o.required("frequency_mhz", frequencyAdvice)
	o.required("duration_seconds", durationAdvice)
	mhz := o.number("frequency_mhz", frequencyAdvice, func(v float64) bool { return v > 0 && v <= highestHz/1e6 })
	seconds := o.number("duration_seconds", durationAdvice, func(v float64) bool { return v >= protocol.MinAcquisitionS && v < oldMostS })
	bandwidth := oldBandwidth
	return protocol.AcquisitionRequest{
		FrequencyHz: math.Round(valueOr(mhz, 0)*1e9) / 1e3, DurationS: valueOr(seconds, 0), BandwidthHz: &bandwidth, IQ: true,
		StartTime: o.oldStart("start_time", now), Stations: o.webSDRs("websdrs", all),
	}
}

// oldStart reads a start; empty for at once, and when it is wrong.
func (o *object) oldStart(name string, now time.Time) string {
	const advice = "write a time like " + timeExample + ", or leave it out for at once"
	var text *string
	o.read(name, &text, advice)
	if text == nil {
		return ""
	}
	start, err := protocol.ParseTime(strings.Replace(*text, " ", "T", 1))
	if err != nil || start.Year() < 1970 {
		o.fault(name, *text, advice)
		return ""
	}
	if age := now.Sub(start); age >= 0 && age <= sentNow {
		return ""
	}
	return protocol.FormatTime(start)
}

// webSDRs reads numbers of stations; all that are in use when there are none.
func (o *object) webSDRs(name string, all []webSDR) []string {
	const advice = "write a list of numbers such as [1, 2], or null for all; GET /api/v1/acquisition/websdrs lists them"
	var given []json.RawMessage
	o.read(name, &given, advice)
	if len(given) > longestList {
		o.fault(name, fmt.Sprintf("%d of them", len(given)), fmt.Sprintf("name at most %d, or null for all", longestList))
		return nil
	}
	stations, seen := []string{}, map[string]bool{}
	for i, value := range given {
		field := fmt.Sprintf("%s[%d]", name, i)
		text, ok := quantityText(value)
		found, known := find(all, text)
		switch {
		case !ok || !known:
			o.fault(field, string(value), "no such station; "+advice)
		case !found.active():
			o.fault(field, string(value), "the station is out of use; PUT {\"is_active\": true} takes it back")
		case !seen[found.station.ID]:
			seen[found.station.ID] = true
			stations = append(stations, found.station.ID)
		}
	}
	if len(given) > 0 {
		return stations
	}
	for _, w := range active(all) {
		stations = append(stations, w.station.ID)
	}
	if len(stations) == 0 {
		o.fault(name, "", "there is no station in use; an agent that connects is one")
	}
	return stations
}

// oldNames gives faults of an acquisition the names that its fields have here.
func oldNames(faults protocol.FieldErrors) protocol.FieldErrors {
	names := map[string]string{"frequency_hz": "frequency_mhz", "duration_s": "duration_seconds", "stations": "websdrs"}
	renamed := make(protocol.FieldErrors, len(faults))
	for i, f := range faults {
		if name, ok := names[f.Field]; ok {
			f.Field = name
		}
		renamed[i] = f
	}
	return renamed
}

func (s *server) oldStatus(w http.ResponseWriter, r *http.Request) error {
	a, err := s.acquisitionSeen(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	numbers, err := s.stationNumbers(r.Context())
	if err != nil {
		return err
	}
	status := oldStatus(a, numbers)
	if status.Status == oldSuccess {
		if status.Result, err = s.oldResult(r.Context(), a, numbers); err != nil {
			return err
		}
		status.Result.Errors = status.Errors
	}
	return send(w, r, http.StatusOK, status)
}

func (s *server) stationNumbers(ctx context.Context) (map[string]int, error) {
	stations, err := s.stations(ctx)
	if err != nil {
		return nil, err
	}
	numbers := make(map[string]int, len(stations))
	for _, station := range stations {
		numbers[station.ID] = station.Number
	}
	return numbers, nil
}

const oldSuccess = "SUCCESS"

// oldState is the former service's word for a state.
func oldState(state protocol.AcquisitionState) string {
	switch state {
	case protocol.AcquisitionQueued:
		return "PENDING"
	case protocol.AcquisitionRunning:
		return "PROGRESS"
	case protocol.AcquisitionDone:
		return oldSuccess
	case protocol.AcquisitionFailed:
		return "FAILURE"
	case protocol.AcquisitionCancelled:
		return "REVOKED"
	}
	return "PROGRESS" // a state of a newer version, which the one word that promises nothing fits
}

// oldStatus is an acquisition but for its result.
func oldStatus(a *protocol.Acquisition, numbers map[string]int) OldStatus {
	status := OldStatus{TaskID: a.ID, Status: oldState(a.State), Progress: a.Progress}
	settled := 0
	for _, part := range a.Stations {
		switch {
		case part.State == protocol.StationDone:
			status.MeasurementsCollected++
			settled++
		case part.State.Settled():
			settled++
			why := part.Message
			if why == "" {
				why = string(part.State)
			}
			status.Errors = append(status.Errors, fmt.Sprintf("WebSDR %d (%s): %s", numbers[part.Station], part.Station, why))
		}
	}
	if settled == len(a.Stations) {
		status.Errors = array(status.Errors)
	}
	status.Message = fmt.Sprintf("%d of %d stations are through", settled, len(a.Stations))
	switch status.Status {
	case oldSuccess:
		status.Message = "Acquisition complete"
	case "FAILURE":
		status.Message = "No station could deliver"
	case "REVOKED":
		status.Message = "The acquisition was cancelled"
	}
	return status
}

// oldResult is what the stations of an acquisition gave.
func (s *server) oldResult(ctx context.Context, a *protocol.Acquisition, numbers map[string]int) (*OldResult, error) {
	result := &OldResult{
		TaskID: a.ID, Status: oldSuccess, Measurements: []OldMeasurement{}, StartTime: a.StartTime, FrequencyMHz: a.Request.FrequencyHz / 1e6,
		DurationSeconds: a.Request.DurationS,
	}
	if start, err := time.Parse(time.RFC3339Nano, a.StartTime); err == nil {
		result.EndTime = protocol.FormatTime(start.Add(time.Duration(a.Request.DurationS * float64(time.Second))))
	}
	for _, part := range a.Stations {
		if part.State != protocol.StationDone {
			continue
		}
		recording, err := s.recordingOf(ctx, part.Recording)
		if err != nil {
			return nil, err
		}
		result.Measurements = append(result.Measurements, oldMeasurement(a, part, numbers[part.Station], recording))
	}
	result.MeasurementsCount = len(result.Measurements)
	return result, nil
}

// recordingOf is a recording; nil when there is none, or none any more.
func (s *server) recordingOf(ctx context.Context, id string) (*protocol.Recording, error) {
	if id == "" {
		return nil, nil
	}
	recording, err := s.Recordings.Recording(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	return recording, nil
}

func oldMeasurement(a *protocol.Acquisition, part protocol.AcquisitionStation, number int, recording *protocol.Recording) OldMeasurement {
	m := OldMeasurement{WebSDRID: number, FrequencyMHz: a.Request.FrequencyHz / 1e6, TimestampUTC: a.StartTime}
	var heard struct {
		Time            string   `json:"time"`
		SampleRateHz    *float64 `json:"sample_rate_hz"`
		Samples         *uint64  `json:"samples"`
		SNRDB           *float64 `json:"snr_db"`
		PeakHz          *float64 `json:"peak_hz"`
		PowerDBM        *float64 `json:"power_dbm"`
		NoiseFloorDBMHz *float64 `json:"noise_floor_dbm_hz"`
	}
	if len(part.Measurement) > 0 && json.Unmarshal(part.Measurement, &heard) == nil {
		m.Metrics.SNRDB, m.Metrics.SignalPowerDBM = heard.SNRDB, heard.PowerDBM
		m.SamplesCount = heard.Samples
		if heard.Time != "" {
			m.TimestampUTC = heard.Time
		}
		if heard.PeakHz != nil {
			m.Metrics.FrequencyOffsetHz = new(*heard.PeakHz - a.Request.FrequencyHz)
		}
	}
	rateHz := heard.SampleRateHz
	if recording != nil {
		rateHz, m.SamplesCount, m.TimestampUTC = &recording.SampleRateHz, &recording.Samples, recording.Start
		m.IQDataPath = new("/api/v1/recordings/" + recording.ID + ".sigmf-data")
	}
	if rateHz != nil && *rateHz > 0 {
		m.SampleRateKHz = new(*rateHz / 1000)
		widthDB := 10 * math.Log10(*rateHz)
		if heard.PowerDBM != nil {
			m.Metrics.PSDDBM = new(*heard.PowerDBM - widthDB)
		}
		if heard.NoiseFloorDBMHz != nil {
			m.Metrics.NoisePowerDBM = new(*heard.NoiseFloorDBMHz + widthDB)
		}
	}
	return m
}
