package identity

import (
	"log/slog"
	"time"
)

// NewTestRenewer makes one that looks and tries often.
func NewTestRenewer(state string, now Now, renewed func()) *Renewer {
	return &Renewer{State: state, Now: now, Renewed: renewed, Log: slog.New(slog.DiscardHandler), look: 2 * time.Millisecond, first: 2 * time.Millisecond}
}
