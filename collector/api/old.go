package api

import (
	"context"
	"net/http"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// The addresses of the service that Heimdall replaces, for its clients: its words, its codes, its forms. Errors are
// problems like all others, with 422 for every value that cannot be, and for a parameter that is not known or given twice.
// Members that are not known are not looked at, as there. A station here is a websdr there: it goes by its number, by a UUID that is made from its id, or by the id.

// WebSDRs keeps what clients of the former service say of stations. Its errors are like those of [Reader]; a change that
// cannot be is a [protocol.FieldErrors].
type WebSDRs interface {
	WebSDRs(ctx context.Context) ([]protocol.WebSDR, error)
	CreateWebSDR(ctx context.Context, fields protocol.WebSDRFields, now time.Time) (station string, err error)
	UpdateWebSDR(ctx context.Context, station string, now time.Time, change func(*protocol.WebSDRFields)) error
	// RemoveWebSDR removes a station that nothing was ever heard of.
	RemoveWebSDR(ctx context.Context, station string) error
}

const (
	oldService    = "backend"
	oldTag        = "old-service"
	oldPath       = "/api/v1/acquisition/"
	oldMostS      = 300.0 // an acquisition is shorter
	oldRateKHz    = 12.5
	oldBandwidth  = oldRateKHz * 1000 / 1.25 // Hz: what is cut out comes at 1.25 times its width
	oldTimeoutS   = 30
	oldRetryCount = 3
)

// OldAlive is the answer of GET /health.
type OldAlive struct {
	Status    string `json:"status"`
	Service   string `json:"service"`
	Version   string `json:"version"`
	Timestamp string `json:"timestamp"`
}

// OldReadiness is the answer of GET /ready.
type OldReadiness struct {
	Ready        bool            `json:"ready"`
	Service      string          `json:"service"`
	Dependencies []OldDependency `json:"dependencies"`
}

// OldDependency is one thing that must hold.
type OldDependency struct {
	Name         string `json:"name"`
	Status       string `json:"status"` // up, down
	ErrorMessage string `json:"error_message,omitempty"`
}

// OldConfiguration is the answer of GET /api/v1/acquisition/config.
type OldConfiguration struct {
	Service              string   `json:"service"`
	Version              string   `json:"version"`
	Capabilities         []string `json:"capabilities"`
	WebSDRsCount         int      `json:"websdrs_count"`
	MaxDurationSeconds   float64  `json:"max_duration_seconds"`
	DefaultSampleRateKHz float64  `json:"default_sample_rate_khz"`
}

// oldRoutes are the entries of the table for clients of the former service.
func oldRoutes() []route {
	table := append(oldServiceRoutes(), oldAcquisitionRoutes()...)
	table = append(table, oldWebSDRRoutes()...)
	for i := range table {
		table[i].tag, table[i].old = oldTag, true
	}
	return table
}

func oldServiceRoutes() []route {
	return []route{
		{
			method: "GET", path: "/health", id: "oldHealth", summary: "Is alive", detail: "Use /healthz.", role: roleOpen, anyQuery: true,
			answer: content{types: []string{jsonType}, schema: "OldAlive", example: OldAlive{"healthy", oldService, "1.0.0", exampleTime}}, serve: (*server).oldHealth,
		},
		{
			method: "GET", path: "/ready", id: "oldReady", summary: "Can do its work, and if not, why",
			detail: "Answers 503 with the same body as long as a condition does not hold. Use /readyz.", role: roleOpen, anyQuery: true,
			answer: content{types: []string{jsonType}, schema: "OldReadiness", example: exampleOldReadiness()}, serve: (*server).oldReady,
		},
		{
			method: "GET", path: oldPath + "config", id: "oldConfiguration", summary: "What can be asked for", role: protocol.RoleViewer,
			answer: content{types: []string{jsonType}, schema: "OldConfiguration", example: oldConfiguration("1.0.0", 7)}, serve: (*server).oldConfig,
		},
	}
}

func (s *server) oldHealth(w http.ResponseWriter, r *http.Request) error {
	return send(w, r, http.StatusOK, OldAlive{"healthy", oldService, s.versionText(), protocol.FormatTime(s.Now())})
}

func (s *server) oldReady(w http.ResponseWriter, r *http.Request) error {
	conditions, reasons := s.conditions(r.Context())
	answer := OldReadiness{Ready: len(reasons) == 0, Service: oldService, Dependencies: []OldDependency{}}
	for _, c := range conditions {
		status := "up"
		if !c.Ready {
			status = "down"
		}
		answer.Dependencies = append(answer.Dependencies, OldDependency{c.Name, status, c.Reason})
	}
	if answer.Ready {
		return send(w, r, http.StatusOK, answer)
	}
	w.Header().Set("Retry-After", "5")
	return send(w, r, http.StatusServiceUnavailable, answer)
}

func (s *server) oldConfig(w http.ResponseWriter, r *http.Request) error {
	all, err := s.websdrs(r.Context())
	if err != nil {
		return err
	}
	return send(w, r, http.StatusOK, oldConfiguration(s.versionText(), len(active(all))))
}

func oldConfiguration(version string, count int) OldConfiguration {
	return OldConfiguration{
		Service: oldService, Version: version, Capabilities: []string{"simultaneous-acquisition", "iq-processing", "signal-metrics"},
		WebSDRsCount: count, MaxDurationSeconds: oldMostS, DefaultSampleRateKHz: oldRateKHz,
	}
}

func exampleOldReadiness() OldReadiness {
	return OldReadiness{Ready: true, Service: oldService, Dependencies: []OldDependency{{Name: "broker", Status: "up"}, {Name: "database", Status: "up"}, {Name: "archive", Status: "up"}}}
}
