package api

import (
	"context"
	"net/http"
	"runtime"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
	"github.com/fulgidus/heimdall/protocol/exposition"
)

// Root is the answer of GET /. Clients of the service that Heimdall replaces look for service: backend.
type Root struct {
	Service   string `json:"service"`
	Status    string `json:"status"`
	Timestamp string `json:"timestamp"`
}

// Alive is the answer of GET /healthz.
type Alive struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// Readiness is the answer of GET /readyz.
type Readiness struct {
	Ready      bool        `json:"ready"`
	Reasons    []string    `json:"reasons"` // of what is not ready
	Conditions []Condition `json:"conditions"`
}

func (s *server) root(w http.ResponseWriter, r *http.Request) error {
	if form, _ := preferred(r.Header.Values("Accept"), []string{jsonType, htmlType}); form == htmlType {
		return s.docsPage(w, r)
	}
	w.Header().Set("Vary", "Accept")
	return send(w, r, http.StatusOK, Root{Service: "backend", Status: "running", Timestamp: protocol.FormatTime(s.Now())})
}

func (s *server) healthz(w http.ResponseWriter, r *http.Request) error {
	return send(w, r, http.StatusOK, Alive{Status: "ok", Version: s.Version})
}

func (s *server) readyz(w http.ResponseWriter, r *http.Request) error {
	conditions, reasons := s.conditions(r.Context())
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	return send(w, r, status, Readiness{Ready: len(reasons) == 0, Reasons: reasons, Conditions: conditions})
}

// conditions are those of the collector's work, and why some do not hold.
func (s *server) conditions(ctx context.Context) (all []Condition, reasons []string) {
	all, reasons = []Condition{}, []string{}
	if s.Ready != nil {
		all = append(all, s.Ready(ctx)...)
	}
	for i, c := range all {
		if !c.Ready && callerOf(ctx).role == "" { // reasons name hosts and accounts, which are nobody's business
			c.Reason = "ask with a token, or see the collector's log"
			all[i] = c
		}
		if !c.Ready {
			reasons = append(reasons, c.Name+": "+c.Reason)
		}
	}
	return all, reasons
}

func (s *server) metrics(w http.ResponseWriter, r *http.Request) error {
	families := s.traffic.families()
	open, dropped := s.Events.Clients()
	families = append(
		families,
		exposition.Gauge("heimdall_collector_build_info", "Always 1; the labels say what runs.",
			exposition.Of(1, "version", s.Version, "goversion", runtime.Version())),
		exposition.Gauge("heimdall_collector_event_clients", "Open streams of /api/v1/events.", exposition.Of(float64(open))),
		exposition.Gauge("heimdall_collector_bulk_reads", "Lists that are being read as CSV or JSON lines.", exposition.Of(float64(len(s.bulk)))),
		exposition.Counter("heimdall_collector_event_clients_dropped_total", "Streams ended because the client did not keep up.",
			exposition.Of(float64(dropped))),
	)
	if s.Metrics != nil {
		families = append(families, s.Metrics.Families(r.Context())...)
	}
	var body strings.Builder
	if err := exposition.Write(&body, families); err != nil {
		return err
	}
	return sendBytes(w, r, http.StatusOK, exposition.ContentType, []byte(body.String()))
}
