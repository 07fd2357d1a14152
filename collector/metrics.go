package main

import (
	"context"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
	"github.com/fulgidus/heimdall/protocol/exposition"
)

// metrics shows what the collector's parts count.
type metrics struct{ *Collector }

// mostWatched is how many stations have series of their own at most: more would cost Prometheus more than they tell it.
const mostWatched = 1000

func counter(name, help string, v uint64) exposition.Family {
	return exposition.Counter("heimdall_collector_"+name, help, exposition.Of(float64(v)))
}

func gauge(name, help string, samples ...exposition.Sample) exposition.Family {
	return exposition.Gauge("heimdall_collector_"+name, help, samples...)
}

// Families gathers the counts of all parts. What cannot be had at the moment is left out; the conditions say so.
func (m metrics) Families(ctx context.Context) []exposition.Family {
	ctx, cancel := context.WithTimeout(ctx, conditionTimeout)
	defer cancel()
	ready := gauge("ready", "Whether a part can do its work; /readyz says why not.")
	database := false
	for _, c := range m.conditions(ctx) {
		ready.Samples = append(ready.Samples, exposition.Of(exposition.Truth(c.Ready), "condition", c.Name))
		database = database || c.Name == "database" && c.Ready
	}
	all := append(m.workFamilies(), ready, m.certificates())
	all = append(all, m.diskFamilies()...)
	if !database { // asking it would only take the time
		return all
	}
	if n, err := m.store.Bytes(ctx); err == nil {
		all = append(all, gauge("database_bytes", "Room that the database takes.", exposition.Of(float64(n))))
	}
	stations, err := m.store.Stations(ctx)
	if err != nil {
		return all
	}
	all = append(all, countStations(stations))
	if len(stations) > mostWatched {
		return all
	}
	all = append(all, stationFamilies(stations)...)
	if accounts, err := m.store.Accounts(ctx); err == nil {
		all = append(all, accountFamily(accounts))
	}
	return all
}

// workFamilies is what this process did.
func (m metrics) workFamilies() []exposition.Family {
	in, files, jobs := m.ingest.Stats(), m.archive.Stats(), m.jobs.Stats()
	all := []exposition.Family{
		counter("messages_received_total", "Messages received from the broker.", in.Messages),
		counter("messages_dropped_total", "Messages that found their station's queue full; their senders repeat them.", in.Dropped),
		counter("messages_unread_total", "Messages of records from suspended stations; their senders repeat them.", in.Unread),
		counter("suspensions_total", "How often this collector suspended a station, because too many of its records were rejected.", in.Suspensions),
		gauge("suspended_stations", "Stations of which nothing is read at the moment.", exposition.Of(float64(in.Suspended))),
		counter("records_committed_total", "Records committed, new or not.", in.Records),
		counter("records_fresh_total", "Records that were new.", in.Fresh),
		counter("records_repeated_total", "Records that were stored already.", in.Repeated),
		counter("records_rejected_total", "Records that could not be accepted.", in.Rejected),
		counter("rejections_unkept_total", "Rejections beyond what is kept of one station a day.", in.Excess),
		exposition.Distribution("heimdall_collector_record_delay_seconds",
			"From made, by the station's clock, to committed, by this one's; without what had waited in a backlog.", m.ingest.Delays()),
		counter("commits_total", "Commits to the database.", in.Commits),
		counter("commit_retries_total", "Commits that failed and were repeated.", in.Retries),
		gauge("waiting_bytes", "Messages that wait for a commit.", exposition.Of(float64(in.Waiting))),
		counter("recordings_total", "Recordings written.", files.RecordingsTotal),
		counter("recordings_failed_total", "Captures that can never become a recording.", files.FailedTotal),
		counter("recording_bytes_total", "Bytes of IQ written.", files.BytesTotal),
		gauge("commands_pending", "Commands that wait for a reply.", exposition.Of(float64(m.commands.Pending()))),
	}
	all = append(all,
		gauge("jobs_leader", "Whether this collector does the jobs of its group.", exposition.Of(exposition.Truth(jobs.Working))),
		counter("leases_taken_total", "How often it began to.", jobs.Taken),
		counter("leases_lost_total", "How often another one could have taken over before it noticed; what it did then was refused.", jobs.Lost))
	if m.mirror != nil {
		all = append(all, counter("mirror_dropped_total", "Records that were not mirrored in JSON.", m.mirror.Dropped()))
	}
	return all
}

// certificates tells when those end that the configuration names.
func (m metrics) certificates() exposition.Family {
	f := gauge("certificate_expiry_timestamp_seconds", "When a certificate ends that the configuration names.")
	add := func(key string, ends time.Time, err error) {
		if err == nil {
			f.Samples = append(f.Samples, exposition.Of(float64(ends.Unix()), "key", key))
		}
	}
	first, _, err := configs.CertificateEnds(m.cfg.MQTT.Cert)
	add("mqtt.cert", first, err)
	_, last, err := configs.CertificateEnds(m.cfg.MQTT.CA) // one of them is enough
	add("mqtt.ca", last, err)
	if m.trust.authority != nil {
		add("ca", m.trust.authority.Expires(), nil)
	}
	if m.cfg.HTTP.TLS != nil {
		first, _, err = configs.CertificateEnds(m.cfg.HTTP.TLS.Cert)
		add("http.tls.cert", first, err)
	}
	return f
}

// diskFamilies tells of the disks that this computer's part of the data is on: those of an SQLite file and of a folder of
// recordings. What the disks of servers hold, they tell themselves.
func (m metrics) diskFamilies() []exposition.Family {
	used := gauge("store_used_ratio", "Part in use of the disk that a store in a local file or folder is on.")
	free := gauge("store_free_bytes", "Free on that disk.")
	for _, s := range m.cfg.localStores() {
		if total, left, err := diskRoom(s.path); err == nil && total > 0 {
			used.Samples = append(used.Samples, exposition.Of(1-float64(left)/float64(total), "store", s.name))
			free.Samples = append(free.Samples, exposition.Of(float64(left), "store", s.name))
		}
	}
	return []exposition.Family{used, free}
}

func countStations(stations []protocol.Station) exposition.Family {
	online := 0
	for _, s := range stations {
		if s.Status == protocol.Online {
			online++
		}
	}
	return gauge("stations", "Stations by whether they are connected.",
		exposition.Of(float64(online), "status", "online"), exposition.Of(float64(len(stations)-online), "status", "offline"))
}

// stationFamilies tells how each station is, as the database has it: collectors that share one say the same.
func stationFamilies(stations []protocol.Station) []exposition.Family {
	info := gauge("station_info", "Always 1; the labels say how a station is.")
	online := gauge("station_online", "Whether a station is connected.")
	seen := gauge("station_last_seen_timestamp_seconds", "When anything last came from a station.")
	offBy := gauge("station_time_error_seconds", "How far a station's clock may be off.")
	backlog := gauge("station_backlog_records", "Records that a station holds unacknowledged.")
	age := gauge("station_backlog_age_seconds", "Age of the oldest of them.")
	used := gauge("station_buffer_used_ratio", "Part in use of the disk that a station may fill with them.")
	samples := exposition.Counter("heimdall_collector_station_samples_received_total", "Samples read by a receiver since its agent started.")
	lost := exposition.Counter("heimdall_collector_station_samples_lost_total", "Samples that never came, likewise.")
	for i := range stations {
		s := &stations[i]
		add := func(f *exposition.Family, v float64, labels ...string) {
			f.Samples = append(f.Samples, exposition.Of(v, append([]string{"station", s.ID}, labels...)...))
		}
		quality := ""
		if s.Clock != nil {
			quality = s.Clock.Quality
			add(&offBy, s.Clock.UncertaintyS)
		}
		add(&info, 1, "state", label(s.State), "time_quality", label(quality), "version", label(s.Version))
		add(&online, exposition.Truth(s.Status == protocol.Online))
		if at, err := protocol.ParseTime(s.LastSeen); err == nil {
			add(&seen, float64(at.UnixMilli())/1e3)
		}
		if s.Delivery != nil {
			add(&backlog, float64(s.Delivery.Backlog))
			add(&age, s.Delivery.BacklogAgeS)
			add(&used, s.Delivery.SpoolUsedRatio)
		}
		for _, r := range s.Reception {
			add(&samples, float64(r.SamplesTotal), "receiver", r.Receiver)
			add(&lost, float64(r.LostSamplesTotal), "receiver", r.Receiver)
		}
	}
	return []exposition.Family{info, online, seen, offBy, backlog, age, used, samples, lost}
}

// longestLabel is more than states, qualities and versions take. What a station says is no label at any length: each new one is another
// series, which Prometheus keeps.
const longestLabel = 40

func label(said string) string {
	if len(said) > longestLabel || plain(said) != said {
		return "other"
	}
	return said
}

func accountFamily(accounts []store.Account) exposition.Family {
	f := gauge("station_records", "A station's records by what became of them.")
	for _, a := range accounts {
		for _, of := range []struct {
			fate    string
			records uint64
		}{{"received", a.Received}, {"rejected", a.Rejected}, {"gapped", a.Gapped}, {"pending", a.Pending}} {
			f.Samples = append(f.Samples, exposition.Of(float64(of.records), "station", a.Station, "fate", of.fate))
		}
	}
	return f
}
