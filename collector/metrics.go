package main

import (
	"context"

	"github.com/fulgidus/heimdall/protocol/exposition"
)

// metrics shows what the collector's parts count.
type metrics struct{ *Collector }

// Families gathers the counts of all parts.
func (m metrics) Families(context.Context) []exposition.Family {
	in, files := m.ingest.Stats(), m.archive.Stats()
	count := func(name, help string, v uint64) exposition.Family {
		return exposition.Counter("heimdall_collector_"+name, help, exposition.Of(float64(v)))
	}
	families := []exposition.Family{
		count("messages_received_total", "Messages received from the broker.", in.Messages),
		count("messages_dropped_total", "Messages that found their station's queue full; their senders repeat them.", in.Dropped),
		count("records_committed_total", "Records committed, new or not.", in.Records),
		count("records_fresh_total", "Records that were new.", in.Fresh),
		count("records_repeated_total", "Records that were stored already.", in.Repeated),
		count("records_rejected_total", "Records that could not be accepted.", in.Rejected),
		count("commits_total", "Commits to the database.", in.Commits),
		count("commit_retries_total", "Commits that failed and were repeated.", in.Retries),
		exposition.Gauge("heimdall_collector_waiting_bytes", "Messages that wait for a commit.", exposition.Of(float64(in.Waiting))),
		count("recordings_total", "Recordings written.", files.RecordingsTotal),
		count("recordings_failed_total", "Captures that can never become a recording.", files.FailedTotal),
		count("recording_bytes_total", "Bytes of IQ written.", files.BytesTotal),
		exposition.Gauge("heimdall_collector_commands_pending", "Commands that wait for a reply.", exposition.Of(float64(m.commands.Pending()))),
	}
	if m.mirror != nil {
		families = append(families, count("mirror_dropped_total", "Records that were not mirrored in JSON.", m.mirror.Dropped()))
	}
	return families
}
