package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/fulgidus/heimdall/protocol"
)

// Auditor keeps who did what.
type Auditor interface {
	Audit(ctx context.Context, actor, action, subject string, detail map[string]any) error
	AuditEntries(ctx context.Context, filter protocol.AuditFilter) ([]protocol.AuditEntry, string, error)
}

// What the audit calls the doings here.
const (
	actAcquire      = "acquire"
	actCapture      = "capture"
	actCancel       = "cancel"
	actDownload     = "download"
	actAddWebSDR    = "websdr-add"
	actChangeWebSDR = "websdr-change"
	actRemoveWebSDR = "websdr-remove"
)

func auditRoute() route {
	return route{
		method: "GET", path: "/api/v1/audit", id: "listAudit", tag: "accounts", summary: "Who did what, newest first", role: protocol.RoleAdmin,
		detail: "Orders (acquire, capture, cancel), downloads of samples (download), changes of accounts and of stations. The actor is the name of a token, " +
			"local for who needs none, or who used a command of the collector's machine. " + bulkDetail,
		query: []parameter{
			{name: "actor", text: "Only what this one did.", example: "club", schema: map[string]any{"type": "string"}},
			{name: "action", text: "Only this.", example: actAcquire, schema: map[string]any{"type": "string"}},
			fromParameter, toParameter, limitParameter, cursorParameter,
		},
		answer:  content{types: listTypes(), schema: "AuditEntryList", example: list([]protocol.AuditEntry{exampleAuditEntry()}, "")},
		listing: &listing{columns: goColumns(reflect.TypeFor[protocol.AuditEntry]()), pages: auditPages},
	}
}

func auditPages(s *server, q *query) pager {
	filter := protocol.AuditFilter{Actor: q.values.Get("actor"), Action: q.values.Get("action")}
	filter.From, filter.To = q.span()
	return func(ctx context.Context, limit int, cursor string) ([]json.RawMessage, string, error) {
		filter.Limit, filter.Cursor = limit, cursor
		entries, next, err := s.Audit.AuditEntries(ctx, filter)
		if err != nil {
			return nil, "", fmt.Errorf("list the audit: %w", err)
		}
		items, err := itemsOf(entries, func(e *protocol.AuditEntry) any { return e })
		return items, next, err
	}
}

// note writes into the audit what the caller does.
func (s *server) note(r *http.Request, action, subject string, detail map[string]any) error {
	who := callerOf(r.Context())
	if detail == nil {
		detail = map[string]any{}
	}
	detail["address"] = who.address
	// Who hangs up early has done it all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), answerTimeout)
	defer cancel()
	if err := s.Audit.Audit(ctx, who.name, action, subject, detail); err != nil {
		return fmt.Errorf("note %s in the audit: %w", action, err)
	}
	return nil
}

// noteDone is note for what has been done and cannot be refused any more: that it could not be noted is for the log.
func (s *server) noteDone(r *http.Request, action, subject string, detail map[string]any) {
	if err := s.note(r, action, subject, detail); err != nil {
		s.Log.ErrorContext(r.Context(), "an entry of the audit is missing", "action", action, "subject", subject, "actor", callerOf(r.Context()).name, "error", err)
	}
}

// ordered is what the audit says of an order.
func ordered(a *protocol.Acquisition) map[string]any {
	stations := make([]string, len(a.Stations))
	for i := range a.Stations {
		stations[i] = a.Stations[i].Station
	}
	detail := map[string]any{"frequency_hz": a.Request.FrequencyHz, "duration_s": a.Request.DurationS, "iq": a.Request.IQ, "stations": stations}
	if a.Request.Label != "" {
		detail["label"] = a.Request.Label
	}
	return detail
}
