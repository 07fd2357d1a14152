package protocol

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Stream names one spool of one station: the scope in which sequence numbers count.
type Stream struct {
	Station string
	Spool   [8]byte
}

// Stream is the record's scope of numbering. A spool of another length than 8 bytes gives zeros.
func (r *Record) Stream() Stream {
	s := Stream{Station: r.GetStation()}
	if len(r.GetSpool()) == len(s.Spool) {
		copy(s.Spool[:], r.GetSpool())
	}
	return s
}

// Rejection is something that a collector could not accept as a record. It is kept, and never blocks the others.
type Rejection struct {
	Station string // from the topic
	Spool   []byte // nil when the bytes could not be decoded
	Seq     uint64 // 0 likewise
	Kind    Kind
	Time    int64 // the record's own, ns; 0 when unknown
	Reason  string
	Payload []byte // as received, at most 64 KiB
}

// Suspension is a time in which collectors read nothing of a station, because they rejected too much of what it sent. The station
// keeps what it has meanwhile.
type Suspension struct {
	Station      string
	Since, Until time.Time
	Times        int // how often in a row; each one lasts twice as long as the one before
	Reason       string
}

// StateSuspended is the state of a Station of which nothing is read. No station says so of itself.
const StateSuspended = "suspended"

// The states of a Station that was let in and is no longer: revoked, or also removed.
const (
	StateRevoked = "revoked"
	StateRemoved = "removed"
)

// StateLeft is the state of a Station that took back all that it said of itself, as `heimdall-agent leave` does.
const StateLeft = "left"

// StoredRecord is a record as a database holds it.
type StoredRecord struct {
	Record   *Record
	Received time.Time
	Late     bool // older than a minute when it arrived
}

// Filter selects stored records, newest first. Zero fields do not restrict.
type Filter struct {
	Stations []string
	From, To time.Time // of the record's time, To excluded
	MinHz    float64   // overlap with the record's band
	MaxHz    float64
	Limit    int    // at most 1000; 0 means 100
	Cursor   string // from the previous page
}

// FieldError says which input was wrong and what to write instead.
type FieldError struct {
	Field   string `json:"field"`
	Value   string `json:"value"`
	Message string `json:"message"`
}

func (e FieldError) Error() string {
	if e.Value == "" {
		return e.Field + ": " + e.Message
	}
	return fmt.Sprintf("%s: %s: %s", e.Field, e.Value, e.Message)
}

// FieldErrors is every fault of one request.
type FieldErrors []FieldError

func (e FieldErrors) Error() string {
	s := make([]string, len(e))
	for i, f := range e {
		s[i] = f.Error()
	}
	return strings.Join(s, "; ")
}

// Position is a place as published: exact, or the centre of a cell of about 10 km.
type Position struct {
	LatitudeDeg  float64 `json:"latitude_deg"`
	LongitudeDeg float64 `json:"longitude_deg"`
	HeightM      float64 `json:"height_m,omitempty"`
	Precision    string  `json:"precision"` // exact or 10km
}

// Info is the retained self-description of a station.
type Info struct {
	Station      string         `json:"station"`
	Name         string         `json:"name,omitempty"`
	Position     *Position      `json:"position,omitempty"`
	Receivers    []ReceiverInfo `json:"receivers"`
	Capabilities []string       `json:"capabilities"` // what the station takes orders for: capture, tune
	Version      string         `json:"version"`
}

// ReceiverInfo describes one receiver of a station.
type ReceiverInfo struct {
	ID           string     `json:"id"`
	Name         string     `json:"name,omitempty"`
	Source       string     `json:"source"` // kind only: rtlsdr, kiwi, sim, file
	Hardware     string     `json:"hardware,omitempty"`
	CenterHz     float64    `json:"center_hz,omitempty"`
	SampleRateHz float64    `json:"sample_rate_hz,omitempty"`
	Plan         []PlanStep `json:"plan,omitempty"`
	Live         bool       `json:"live"` // its times can be compared with the wall clock
	// RetuneS is how long it takes to hear another frequency; absent: it has one fixed tuning.
	RetuneS float64 `json:"retune_s,omitempty"`
	// HistoryFrom is the time back to which its history reached when this was read. Only a Station has it, never an Info.
	HistoryFrom string `json:"history_from,omitempty"`
}

// PlanStep is one step of what a receiver surveys.
type PlanStep struct {
	Name     string  `json:"name"`
	CenterHz float64 `json:"center_hz,omitempty"`
	RateHz   float64 `json:"rate_hz,omitempty"`
	DwellS   float64 `json:"dwell_s,omitempty"`
}

// State is the retained condition of a station, under 1 KiB.
type State struct {
	Time             string                   `json:"time"`
	State            string                   `json:"state"` // running, paused, degraded, stopped
	Reason           string                   `json:"reason,omitempty"`
	Since            string                   `json:"since"`
	Receivers        map[string]ReceiverState `json:"receivers"`
	TimeQuality      string                   `json:"time_quality"`
	TimeUncertaintyS float64                  `json:"time_uncertainty_s"`
	Backlog          uint64                   `json:"backlog"`
	BacklogAgeS      float64                  `json:"backlog_age_s"` // since the time that the oldest record states: when its samples began
	SpoolUsedRatio   float64                  `json:"spool_used_ratio"`
	TemperatureC     *float64                 `json:"temperature_c,omitempty"`
}

// ReceiverState is one receiver's part of State.
type ReceiverState struct {
	Connected        bool                 `json:"connected"`
	LostSamplesTotal uint64               `json:"lost_samples_total"`
	RatePPM          *float64             `json:"rate_ppm,omitempty"`
	LagS             float64              `json:"lag_s,omitempty"` // how late samples come, beyond what is usual on this source
	HistoryS         float64              `json:"history_s"`       // how far back its IQ reaches
	Held             uint64               `json:"held,omitempty"`  // detections whose IQ stays in memory beyond that
	Steps            map[string]StepState `json:"steps"`
	Away             *ReceiverAway        `json:"away,omitempty"` // absent: it follows its plan
}

// ReceiverAway says what keeps a receiver off its plan.
type ReceiverAway struct {
	Order    string  `json:"order"` // id of the command
	CenterHz float64 `json:"center_hz"`
	Until    string  `json:"until"`
}

// StepState is the latest measurement of one step of a plan.
type StepState struct {
	PowerDBFS        *float64 `json:"power_dbfs,omitempty"`
	NoiseFloorDBFSHz *float64 `json:"noise_floor_dbfs_hz,omitempty"`
	SNRDB            *float64 `json:"snr_db,omitempty"`
	DetectionsTotal  uint64   `json:"detections_total"`
}

// Station is a station as the REST API shows it.
type Station struct {
	ID        string           `json:"id"`
	Number    int              `json:"number"` // stable, from 1 in order of first sight
	Name      string           `json:"name,omitempty"`
	Position  *Position        `json:"position,omitempty"`
	Status    string           `json:"status"`          // online, offline
	State     string           `json:"state,omitempty"` // as it says itself, or suspended, revoked, removed or left
	Reason    string           `json:"reason,omitempty"`
	Since     string           `json:"since,omitempty"`
	LastSeen  string           `json:"last_seen,omitempty"`
	Clock     *StationClock    `json:"clock,omitempty"`
	Delivery  *StationDelivery `json:"delivery,omitempty"`
	Receivers []ReceiverInfo   `json:"receivers"`
	// Capabilities lists what the station takes orders for.
	Capabilities []string `json:"capabilities"`
	Version      string   `json:"version,omitempty"` // of its agent
	// Reception is what each receiver delivered since the agent started, by the last health record.
	Reception []StationReception `json:"reception,omitempty"`
	Steps     json.RawMessage    `json:"receiver_state,omitempty"` // receivers of the last State
}

// StationClock is how well a station knows the time.
type StationClock struct {
	Quality      string  `json:"quality"`
	UncertaintyS float64 `json:"uncertainty_s"`
}

// StationReception is what one receiver delivered since the agent started.
type StationReception struct {
	Receiver         string `json:"receiver"`
	SamplesTotal     uint64 `json:"samples_total"`
	LostSamplesTotal uint64 `json:"lost_samples_total"`
}

// StationDelivery is what a station still holds.
type StationDelivery struct {
	Backlog        uint64  `json:"backlog"`
	BacklogAgeS    float64 `json:"backlog_age_s"`
	SpoolUsedRatio float64 `json:"spool_used_ratio"`
}

// AcquisitionRequest asks several stations for the same stretch of time.
type AcquisitionRequest struct {
	FrequencyHz float64  `json:"frequency_hz"`
	DurationS   float64  `json:"duration_s"`
	BandwidthHz *float64 `json:"bandwidth_hz,omitempty"`
	StartTime   string   `json:"start_time,omitempty"` // RFC 3339; absent: as soon as all can start together
	Stations    []string `json:"stations,omitempty"`   // absent: all that take orders
	IQ          bool     `json:"iq,omitempty"`
	Priority    int      `json:"priority,omitempty"`
	Label       string   `json:"label,omitempty"`
}

// AcquisitionState is the state of a whole acquisition.
type AcquisitionState string

// States of an acquisition. Done means that at least one station is done.
const (
	AcquisitionQueued    AcquisitionState = "queued"
	AcquisitionRunning   AcquisitionState = "running"
	AcquisitionDone      AcquisitionState = "done"
	AcquisitionFailed    AcquisitionState = "failed"
	AcquisitionCancelled AcquisitionState = "cancelled"
)

// Acquisition is one request to several stations and what became of it.
type Acquisition struct {
	ID        string               `json:"id"` // UUIDv7
	State     AcquisitionState     `json:"state"`
	Progress  float64              `json:"progress"` // 0..100
	Requested string               `json:"requested"`
	StartTime string               `json:"start_time,omitempty"`
	Request   AcquisitionRequest   `json:"request"`
	Stations  []AcquisitionStation `json:"stations"`
	// CancelRequested is when it was cancelled: stations that had begun by then go on.
	CancelRequested string `json:"cancel_requested,omitempty"`
}

// StationState is the state of one station in an acquisition.
type StationState string

// States of a station in an acquisition.
const (
	StationQueued    StationState = "queued"
	StationSent      StationState = "sent"
	StationAccepted  StationState = "accepted"
	StationCapturing StationState = "capturing"
	StationUploading StationState = "uploading"
	StationDone      StationState = "done"
	StationRefused   StationState = "refused"
	StationFailed    StationState = "failed"
	StationExpired   StationState = "expired"
	StationCancelled StationState = "cancelled"
)

// Settled tells whether nothing more will come from the station.
func (s StationState) Settled() bool {
	switch s {
	case StationDone, StationRefused, StationFailed, StationExpired, StationCancelled:
		return true
	case StationQueued, StationSent, StationAccepted, StationCapturing, StationUploading:
		return false
	}
	return false
}

// AcquisitionStation is one station's part in an acquisition.
type AcquisitionStation struct {
	Station     string          `json:"station"`
	State       StationState    `json:"state"`
	ReasonCode  string          `json:"reason_code,omitempty"`
	Message     string          `json:"message,omitempty"`
	CommandID   string          `json:"command_id,omitempty"`
	Measurement json.RawMessage `json:"measurement,omitempty"` // the JSON dialect's record fields
	Recording   string          `json:"recording,omitempty"`   // id; present once its file is complete
	// Attempt counts how often the station was asked before, each time under another command id. The reason is that of the
	// latest answer; behind it, the message tells the first one where it was another.
	Attempt     int    `json:"attempt,omitempty"`
	NextAttempt string `json:"next_attempt,omitempty"` // when it is asked again, or for the first time
	// EarliestStart is the earliest start with which the station could have served, as it said when it refused.
	EarliestStart string `json:"earliest_start,omitempty"`
	CancelID      string `json:"cancel_id,omitempty"` // the command that tells it to stop; absent once it has answered
}

// Recording is one SigMF pair in the archive.
type Recording struct {
	ID               string  `json:"id"` // the capture's id; CAPTURE@STATION where another station's recording has that one
	Acquisition      string  `json:"acquisition,omitempty"`
	Station          string  `json:"station"`
	Receiver         string  `json:"receiver,omitempty"`
	Start            string  `json:"start"` // RFC 3339, nanoseconds
	AskedStart       string  `json:"asked_start,omitempty"`
	DurationS        float64 `json:"duration_s"`
	CenterHz         float64 `json:"center_hz"`
	SampleRateHz     float64 `json:"sample_rate_hz"`
	Datatype         string  `json:"datatype"`
	Samples          uint64  `json:"samples"`
	LostSamples      uint64  `json:"lost_samples"`
	Bytes            uint64  `json:"bytes"`
	SHA512           string  `json:"sha512"`
	TimeQuality      string  `json:"time_quality"`
	TimeUncertaintyS float64 `json:"time_uncertainty_s"`
	Key              string  `json:"key"` // object name without extension
	Stored           string  `json:"stored"`
}
