package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// played starts a collector with two stations that obey.
func played(t *testing.T) (w *whole, torino *player) {
	t.Helper()
	w = startCollector(t, testConfig(t)).ready(t)
	torino = playStation(t, w.BrokerURL(), "torino")
	playStation(t, w.BrokerURL(), "genova")
	eventually(t, "two stations", func() bool {
		var list struct{ Items []protocol.Station }
		err := w.remote.call(t.Context(), http.MethodGet, "/api/v1/stations", nil, &list)
		return err == nil && len(list.Items) == 2 && list.Items[0].Status == "online" && list.Items[1].Status == "online" &&
			len(list.Items[0].Capabilities) > 0 && len(list.Items[1].Capabilities) > 0
	})
	return w, torino
}

func TestAcquireCmd_ShowsWhatEachStationHeard(t *testing.T) {
	w, _ := played(t)
	var out, errs output
	cmd := AcquireCmd{
		remote: w.remote, Frequency: 145.5e6, Duration: configs.Duration(time.Second), Bandwidth: 12500, IQ: true, Wait: true,
		Stations: []string{"torino", "genova"}, Label: "beacon",
	}
	if err := cmd.Run(t.Context(), streams{out: &out, err: &errs}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "acquisition ") || !strings.HasSuffix(lines[0], " done") {
		t.Fatalf("got\n%s", out.String())
	}
	for i, station := range []string{"genova", "torino"} { // by name, whatever was asked for first
		got := strings.Fields(lines[2+i])
		want := []string{station, "-40.0", "-110.0", "21.5", "11.2", "kHz"}
		if len(got) != 10 || strings.Join(got[:6], " ") != strings.Join(want, " ") || got[7] != "(4ms)" || strings.Join(got[8:], "") != "32B" {
			t.Errorf("row %q, want %q, a start and 32 B", got, want)
		}
	}
	progress := strings.Split(strings.TrimSpace(errs.String()), "\n")
	if last := progress[len(progress)-1]; !strings.HasSuffix(last, " done: 2 done") || len(slices.Compact(slices.Clone(progress))) != len(progress) ||
		strings.ContainsAny(errs.String(), "\r\x1b%") {
		t.Errorf("without a terminal a line for each change of state, and got %q", errs.String())
	}

	out = output{}
	cmd.JSON, cmd.Wait, cmd.IQ = true, false, false
	if err := cmd.Run(t.Context(), streams{out: &out, err: &errs}); err != nil {
		t.Fatal(err)
	}
	var a protocol.Acquisition
	if err := json.Unmarshal([]byte(out.String()), &a); err != nil || a.ID == "" || len(a.Stations) != 2 || a.Request.Label != "beacon" {
		t.Errorf("JSON %s (%v)", out.String(), err)
	}
	out = output{}
	cmd.JSON = false
	if err := cmd.Run(t.Context(), streams{out: &out, err: &errs}); err != nil {
		t.Fatal(err)
	}
	begun := regexp.MustCompile(`^acquisition (\S+) (queued|running): 2 stations\n  result  ` + w.remote.URL + `/api/v1/acquisitions/(\S+) \(with --wait `)
	if found := begun.FindStringSubmatch(out.String()); found == nil || found[1] != found[3] {
		t.Errorf("it does not say how to go on: %q", out.String())
	}
	a2, err := w.remote.watch(t.Context(), a.ID, func(*protocol.Acquisition) {})
	if err != nil || a2.State != protocol.AcquisitionDone {
		t.Errorf("%+v, %v", a2, err)
	}
}

func TestAcquireCmd_EndsWithoutAResult(t *testing.T) {
	w := startCollector(t, testConfig(t)).ready(t)
	ask := func(ctx context.Context, c AcquireCmd) (string, error) {
		var out output
		c.remote, c.Frequency = w.remote, 145.5e6
		c.Duration = cmp.Or(c.Duration, configs.Duration(time.Second))
		err := c.Run(ctx, streams{out: &out, err: io.Discard})
		return out.String(), err
	}
	for _, c := range []struct {
		cmd  AcquireCmd
		want string // once, and nothing else
		code int
	}{
		{AcquireCmd{Start: "yesterday"}, "start_time: yesterday: write a time like 2026-11-24T02:00:00Z", exitUsage},
		{AcquireCmd{Duration: configs.Duration(-5 * time.Second)}, `duration_s: -5: write seconds such as 5 or 0.25, or text such as "250ms", from 0.001 to 3600`, exitUsage},
		{AcquireCmd{Stations: []string{"nowhere"}}, "stations: nowhere: no station of this id has ever connected; `heimdall-collector station list` lists those there are", exitUsage},
		{AcquireCmd{}, "stations: no station is online and takes orders; `heimdall-collector station list` tells why", exitFailed},
	} {
		if _, err := ask(t.Context(), c.cmd); err == nil || err.Error() != c.want || exitCode(err, io.Discard) != c.code {
			t.Errorf("got %v\nwant %s and exit code %d", err, c.want, c.code)
		}
	}
	// A station that takes orders and never answers: the wait ends with the context, and says for what it waited.
	deaf := playStation(t, w.BrokerURL(), "deaf")
	deaf.wait(deaf.client.Unsubscribe(protocol.Topics{Prefix: "heimdall"}.Command("deaf")))
	eventually(t, "the station", func() bool {
		var s protocol.Station
		return w.remote.call(t.Context(), http.MethodGet, "/api/v1/stations/deaf", nil, &s) == nil && s.Status == "online" && len(s.Capabilities) > 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, AcquireCmd{Wait: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the wait", err)
	}
}

func TestAcquireCmd_TellsOfSpoiltSamples(t *testing.T) {
	w, torino := played(t)
	torino.spoilt.Store(true)
	var out output
	cmd := AcquireCmd{remote: w.remote, Frequency: 145.5e6, Duration: configs.Duration(time.Second), Bandwidth: 12500, IQ: true, Wait: true, Stations: []string{"torino"}}
	if err := cmd.Run(t.Context(), streams{out: &out, err: io.Discard}); !errors.Is(err, errReported) || !strings.Contains(out.String(), "the SHA-512 of its samples is ") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestCollector_ShowsWhatAStationSaysOfItself(t *testing.T) {
	w, torino := played(t)
	text := `{"time":"2026-11-24T02:00:00Z","state":"paused","reason":"owner","since":"2026-11-24T01:00:00Z"}`
	torino.wait(torino.client.Publish(protocol.Topics{Prefix: "heimdall"}.State("torino"), 0, true, text))
	eventually(t, "the state", func() bool {
		var s protocol.Station
		return w.remote.call(t.Context(), http.MethodGet, "/api/v1/stations/torino", nil, &s) == nil && s.State == "paused" && s.Reason == "owner"
	})
}

func TestTapCmd_ShowsWhatIsStored(t *testing.T) {
	w, torino := played(t)
	tap := func(c TapCmd, want ...string) {
		t.Helper()
		var out output
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1) // Run returns once
		c.remote = w.remote
		go func() { ended <- c.Run(ctx, streams{out: &out, err: io.Discard}) }()
		eventually(t, strings.Join(want, ", "), func() bool {
			torino.measure() // the stream begins at some time, and shows nothing of before
			torino.detect()
			for _, w := range want {
				if !strings.Contains(out.String(), w) {
					return false
				}
			}
			return true
		})
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		if c.Kind == "detection" && (strings.Contains(out.String(), "level") || strings.Contains(out.String(), `"measurement"`)) {
			t.Errorf("other kinds too:\n%s", out.String())
		}
	}
	tap(TapCmd{}, "  torino           2m       level -31.5 dBFS  floor -104.2 dBFS/Hz  SNR - dB\n", "heard 145.5 MHz for 0.125 s, -50.0 dBFS, SNR 18.0 dB\n")
	tap(TapCmd{Station: "torino", Kind: "detection", JSON: true}, `"detection":{`, `"station":"torino"`)

	err := TapCmd{remote: w.remote, Kind: "colour"}.Run(t.Context(), streams{out: io.Discard, err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "kind") || !strings.Contains(err.Error(), "choose of") {
		t.Errorf("a wrong kind: %v", err)
	}
	ended := make(chan error, 1) // Run returns once
	go func() { ended <- TapCmd{remote: w.remote}.Run(t.Context(), streams{out: io.Discard, err: io.Discard}) }()
	eventually(t, "the stream", func() bool {
		_, body := w.get(t, "/metrics")
		return strings.Contains(body, "heimdall_collector_event_clients 1\n")
	})
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the collector ended the stream") {
		t.Errorf("the collector's end: %v", err)
	}
}

func TestPrintRecord(t *testing.T) {
	for data, want := range map[string]string{
		`{"time":"T","station":"torino","step":"2m","seq":7,"health":{}}`:                                                               "T  torino           2m       record 7\n",
		`{"time":"T","station":"torino","step":"dcf","detection":{"center_hz":77493.28,"duration_s":0.1,"power_dbfs":-50,"snr_db":18}}`: "T  torino           dcf      heard 77.493 kHz for 0.100 s, -50.0 dBFS, SNR 18.0 dB\n",
		`{"time":"T","station":"torino","step":"2m","spectrum":{"start_hz":145406250,"step_hz":12500,"dbfs_hz":[-101,-62,-100,-103]}}`:  "T  torino           2m       spectrum 145.4 MHz to 145.45 MHz, 4 bins of 12.5 kHz, median -100.5 dBFS/Hz\n",
		`{"time":"T","station":"torino","step":"2m","spectrum":{"start_hz":1000,"step_hz":585.9375,"dbfs_hz":[-101]}}`:                  "T  torino           2m       spectrum 707 Hz to 1.293 kHz, 1 bin of 586 Hz, median -101.0 dBFS/Hz\n",
		`{"time":"T","station":"torino","step":"2m","spectrum":{}}`:                                                                     "T  torino           2m       spectrum without bins\n",
	} {
		var out output
		if err := printRecord(&out, []byte(data)); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v, want %q", data, out.String(), err, want)
		}
	}
	if err := printRecord(io.Discard, []byte("{")); err == nil {
		t.Error("half a record is printed")
	}
}

func TestRetireSpoolCmd_ClosesTheAccountOfADeadCard(t *testing.T) {
	cfg := testConfig(t)
	file := configFile(t, cfg)
	retire := func(station, spool string) (string, error) {
		t.Helper()
		var o output
		err := RetireSpoolCmd{configFlag: configFlag{file}, Station: station, Spool: spool}.Run(t.Context(), streams{out: &o, err: io.Discard})
		return o.String(), err
	}
	for spool, want := range map[string]string{"31323334": "want 16 hex digits", "torino": "want 16 hex digits"} {
		if _, err := retire("torino", spool); err == nil || !strings.Contains(err.Error(), want) || exitCode(err, io.Discard) != exitUsage {
			t.Errorf("%s: %v", spool, err)
		}
	}
	if _, err := retire("Torino!", "3132333435363738"); exitCode(err, io.Discard) != exitUsage {
		t.Errorf("no station's name: %v", err)
	}
	if _, err := retire("torino", "3132333435363738"); err == nil || !strings.Contains(err.Error(), "station retire-spool: ") {
		t.Errorf("no database: %v", err)
	}
	w := startCollector(t, cfg).ready(t)
	torino := playStation(t, w.BrokerURL(), "torino")
	for range 3 {
		torino.measure()
	}
	w.stored(t, "measurements", 3)
	if _, err := w.store.RetireSpool(t.Context(), protocol.Stream{Station: "torino"}, "test"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown spool: %v", err)
	}
	if out, err := retire("torino", "3132333435363738"); err != nil || out != "torino 3132333435363738 owes nothing\n" {
		t.Errorf("%q, %v", out, err)
	}
	torino.seq.Add(4) // these are on the card that died
	torino.measure()
	w.stored(t, "measurements", 4)
	var errs output
	err := (VerifyCmd{configFlag: configFlag{file}, Final: true}).Run(t.Context(), streams{out: io.Discard, err: &errs})
	if !errors.Is(err, errReported) || !strings.Contains(errs.String(), "missing 4-7; if its disk is gone for good, `heimdall-collector station retire-spool torino 3132333435363738` ") {
		t.Errorf("verify before: %v, %s", err, errs.String())
	}
	if out, err := retire("torino", "3132333435363738"); err != nil || out != "torino 3132333435363738: declared 4 records as abandoned: 4-7\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := retire("torino", "0102030405060708"); err == nil || !strings.Contains(err.Error(), "nothing is known of this spool") || exitCode(err, io.Discard) != exitFailed {
		t.Errorf("unknown: %v", err)
	}
	if err := (VerifyCmd{configFlag: configFlag{file}, Final: true}).Run(t.Context(), streams{out: io.Discard, err: io.Discard}); err != nil {
		t.Errorf("verify: %v", err)
	}
}

func TestVerifyCmd_ProvesTheDelivery(t *testing.T) {
	cfg := testConfig(t)
	file := configFile(t, cfg)
	verify := func(c VerifyCmd) (out, errs string, err error) {
		t.Helper()
		var o, e output
		c.configFlag = configFlag{file}
		err = c.Run(t.Context(), streams{out: &o, err: &e})
		return o.String(), e.String(), err
	}
	if _, _, err := verify(VerifyCmd{}); err == nil || !strings.Contains(err.Error(), "no collector has used this database yet; --config names") {
		t.Errorf("no database: %v", err)
	}
	if _, err := os.Stat(cfg.Data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("to verify made %s (%v)", cfg.Data, err)
	}
	empty, err := store.Open(t.Context(), string(cfg.Store.URL), quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := verify(VerifyCmd{}); err == nil || !strings.Contains(err.Error(), "no collector has used this database yet") {
		t.Errorf("an empty database: %v", err)
	}

	w := startCollector(t, cfg).ready(t)
	torino := playStation(t, w.BrokerURL(), "torino")
	for range 5 {
		torino.measure()
	}
	w.stored(t, "measurements", 5)
	out, errs, err := verify(VerifyCmd{Final: true})
	rows := strings.Split(strings.TrimSpace(out), "\n")
	if err != nil || len(rows) != 2 || strings.Join(strings.Fields(rows[1]), " ") != "torino 3132333435363738 1 5 5 0 0 0 0 0 0" {
		t.Errorf("all there: %v\n%s%s", err, out, errs)
	}
	if _, _, err := verify(VerifyCmd{Station: "genova"}); err == nil || !strings.Contains(err.Error(), `"genova"`) {
		t.Errorf("a station that never sent anything is proved: %v", err)
	}

	db, err := sql.Open("sqlite", filepath.Join(cfg.Data, "heimdall.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, damage := range []string{
		"DELETE FROM measurement WHERE seq = 3",
		"INSERT INTO measurement SELECT * FROM measurement WHERE seq = 4",
	} {
		if strings.HasPrefix(damage, "INSERT") { // a damaged index lets a row in twice
			if _, err := db.ExecContext(t.Context(), "DROP INDEX measurement_identity"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.ExecContext(t.Context(), damage); err != nil {
			t.Fatal(err)
		}
	}
	out, errs, err = verify(VerifyCmd{Station: "torino", JSON: true})
	if !errors.Is(err, errReported) || !strings.Contains(errs, "torino 3132333435363738: missing 3, there twice 4\n") {
		t.Errorf("got %v, %s", err, errs)
	}
	var line struct {
		Station, Spool             string
		Stored, Missing, Duplicate uint64
	}
	if err := json.Unmarshal([]byte(out), &line); err != nil || line.Station != "torino" || line.Spool != "3132333435363738" || line.Missing != 1 || line.Duplicate != 1 ||
		!strings.Contains(out, `"missing_ranges":[[3,3]],"duplicate_ranges":[[4,4]]`) {
		t.Errorf("%+v, %v in %s", line, err, out)
	}
}

func TestFault_IsForPeople(t *testing.T) {
	var many protocol.Ranges
	for n := range uint64(30) {
		many.Add(2 * n)
	}
	for want, v := range map[string]store.Verdict{
		"torino 0000000000000000: there twice 7":      {Duplicate: 1, DuplicateRanges: protocol.Ranges{{From: 7, To: 7}}},
		"torino 0000000000000000: missing 1-401, 405": {Missing: 402, MissingRanges: protocol.Ranges{{From: 1, To: 401}, {From: 405, To: 405}}}, // rows that were removed by hand
		"torino 0000000000000000: missing 1-2; if its disk is gone for good, `heimdall-collector station retire-spool torino 0000000000000000` declares what it owes": {Missing: 2, Owed: 2, MissingRanges: protocol.Ranges{{From: 1, To: 2}}},
		"torino 0000000000000000: missing 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, and 10 ranges more":                              {Missing: 30, MissingRanges: many},
	} {
		v.Station = "torino"
		if got := fault(v); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestMigrateCmd_SaysWhatItDid(t *testing.T) {
	file := configFile(t, testConfig(t))
	for _, want := range []string{" migrations applied, now at ", ": 0 migrations applied, now at "} {
		var out, errs output
		if err := (MigrateCmd{configFlag{file}}).Run(t.Context(), streams{out: &out, err: &errs}); err != nil || !strings.HasPrefix(out.String(), "SQLite ") || !strings.Contains(out.String(), want) {
			t.Errorf("%q, %v, want %q", out.String(), err, want)
		}
		if !strings.HasPrefix(errs.String(), "config "+file+", store sqlite:") {
			t.Errorf("stderr %q", errs.String())
		}
	}
	cfg := testConfig(t)
	cfg.Store.URL = "postgres://heimdall@127.0.0.1:1/heimdall"
	if err := (MigrateCmd{configFlag{configFile(t, cfg)}}).Run(t.Context(), streams{out: io.Discard, err: io.Discard}); err == nil ||
		exitCode(err, io.Discard) != exitFailed || err.Error() != "no server answers at 127.0.0.1:1: connect: connection refused; start it, or name another in store.url" {
		t.Errorf("a database that is away: %q, want one line with the mend and exit code %d", err, exitFailed)
	}
}

func TestCheckCmd_TriesEverything(t *testing.T) {
	check := func(cfg Config, c CheckCmd) (string, error) {
		t.Helper()
		var out output
		c.configFlag = configFlag{configFile(t, cfg)}
		err := c.Run(t.Context(), streams{out: &out, err: io.Discard})
		return out.String(), err
	}
	verdicts := func(out string) string {
		var all []string
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 {
				all = append(all, f[1]+" "+f[0])
			}
		}
		return strings.Join(all, ", ")
	}
	cfg := testConfig(t)
	out, err := check(cfg, CheckCmd{})
	if got, want := verdicts(out), "database warn, archive ok, broker ok, api ok, clock ok"; err != nil || got != want || !strings.Contains(out, "heimdall-collector migrate") {
		t.Errorf("before the first run: %s, %v, want %s\n%s", got, err, want, out)
	}
	if _, err := os.Stat(cfg.Data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the check made %s (%v)", cfg.Data, err)
	}
	db, err := store.Open(t.Context(), string(cfg.Store.URL), quiet())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Close()
	broker, err := link.OpenBroker(t.Context(), "127.0.0.1:0", quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1) // Run returns once
	go func() { ended <- broker.Run(ctx) }()
	cfg.MQTT.URL = broker.URL()
	out, err = check(cfg, CheckCmd{Wait: configs.Duration(10 * time.Second)}) // the broker may need a moment
	if got, want := verdicts(out), "database ok, archive ok, broker ok, api ok, clock ok"; err != nil || got != want {
		t.Errorf("with a broker: %s, %v, want %s\n%s", got, err, want, out)
	}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(cfg.MQTT.URL).SetClientID("another"))
	done := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	done(client.Connect())
	done(client.Publish(protocol.Topics{Prefix: "heimdall"}.CollectorStatus(cfg.ID), 1, true, protocol.Online))
	out, err = check(cfg, CheckCmd{})
	if got, want := verdicts(out), "database ok, archive ok, broker warn, api ok, clock ok"; err != nil || got != want || !strings.Contains(out, "is online already; give each its own id") {
		t.Errorf("with another one of this id: %s, %v, want %s\n%s", got, err, want, out)
	}
	client.Disconnect(0)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	cfg.Store.URL, cfg.Archive.URL = "postgres://heimdall@127.0.0.1:1/heimdall", "s3://heimdall?endpoint=http://127.0.0.1:1"
	out, err = check(cfg, CheckCmd{JSON: true})
	if !errors.Is(err, errReported) || exitCode(err, io.Discard) != exitFailed {
		t.Errorf("all away: %v", err)
	}
	failed := map[string]string{}
	for decoder := json.NewDecoder(strings.NewReader(out)); decoder.More(); {
		var f finding
		if err := decoder.Decode(&f); err != nil {
			t.Fatal(err)
		}
		if f.Verdict == "fail" {
			failed[f.What] = f.Detail
		}
	}
	address := strings.TrimPrefix(cfg.MQTT.URL, "mqtt://")
	if diff := gocmp.Diff(map[string]string{
		"database": "no server answers at 127.0.0.1:1: connect: connection refused; start it, or name another in store.url",
		"archive":  "no server answers at 127.0.0.1:1: connect: connection refused; start it, or name another in archive.url",
		"broker":   "connect to " + address + ": connect: connection refused; start it, or correct mqtt.url",
	}, failed); diff != "" {
		t.Errorf("what failed (-want +got):\n%s", diff)
	}
	ctx, stop = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	err = CheckCmd{configFlag: configFlag{configFile(t, cfg)}, Wait: configs.Duration(time.Minute)}.Run(ctx, streams{out: io.Discard, err: io.Discard})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the wait outlives its context: %v", err)
	}
}

// A server that does not let the collector in says whom, where and what to correct in one line, without the password.
func TestMigrateCmd_SaysWhyItIsNotLetIn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "postgres")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for parent := dir; strings.HasPrefix(parent, os.TempDir()+"/"); parent = filepath.Dir(parent) { // the server has another account where root tests
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cluster, err := servers.StartPostgres(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	if err := cluster.SQL(t.Context(), "CREATE ROLE torino LOGIN PASSWORD 'right'"); err != nil {
		t.Fatal(err)
	}
	rules := "host all torino 127.0.0.1/32 scram-sha-256\nhost all stranger 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n"
	if err := os.WriteFile(filepath.Join(dir, "data", "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cluster.SQL(t.Context(), "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	const keys = "store.url, or HEIMDALL_COLLECTOR_STORE_URL where that is set"
	server := fmt.Sprintf("the server at 127.0.0.1:%d ", cluster.Port)
	for account, want := range map[string]string{
		"torino:hush@127.0.0.1:%d/postgres":                  server + `refuses the password of user "torino": correct it in ` + keys,
		"torino:right@127.0.0.1:%d/nowhere":                  server + "has no database \"nowhere\": make it with `createdb -O torino nowhere` there, or name another in " + keys,
		"torino:right@127.0.0.1:%d/postgres?sslmode=require": server + "has no TLS, which sslmode asks for: set it up there, or write sslmode=prefer in " + keys,
		"torino:right@nowhere.invalid:%d/postgres":           `the address of "nowhere.invalid" is not to be found (`,
		"stranger:hush@127.0.0.1:%d/postgres":                server + `does not let user "stranger" in (`,
	} {
		cfg := testConfig(t)
		cfg.Store.URL = configs.Secret("postgres://" + fmt.Sprintf(account, cluster.Port))
		var said output
		eventually(t, "the new rules", func() bool { // they are read a moment after the call
			said = output{}
			err = (MigrateCmd{configFlag{configFile(t, cfg)}}).Run(t.Context(), streams{out: io.Discard, err: &said})
			return err != nil && strings.Contains(err.Error(), want)
		})
		if strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "nowhere.invalid") > 1 || strings.Contains(err.Error()+said.String(), "hush") || strings.Count(err.Error(), "SQLSTATE") > 0 {
			t.Errorf("%v\n%s", err, said.String())
		}
		if f := checkStore(t.Context(), cfg); f.Verdict != "fail" || !strings.Contains(f.Detail, want) {
			t.Errorf("check: %v", f)
		}
	}
}

// What an account may not do is found before the first run, not by it.
func TestCheckCmd_AsksForLeave(t *testing.T) {
	cfg := testConfig(t)
	address := servers.Postgres(t)
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	account := fmt.Sprintf("plain%d", time.Now().UnixNano()) // it belongs to the whole server
	cfg.Store.URL = configs.Secret(strings.Replace(address, "heimdall@", account+"@", 1))
	grant := "GRANT CREATE ON SCHEMA public TO " + account
	for _, step := range []struct{ statement, verdict, detail string }{
		{"CREATE ROLE " + account + " LOGIN", "fail", ": " + grant},
		{grant, "warn", "`heimdall-collector migrate` or `run` brings the tables up to date"},
	} {
		if _, err := db.ExecContext(t.Context(), step.statement); err != nil {
			t.Fatal(err)
		}
		if f := checkStore(t.Context(), cfg); f.Verdict != step.verdict || !strings.HasSuffix(f.Detail, step.detail) {
			t.Errorf("after %s: %v", step.statement, f)
		}
	}
}

func TestCheckCmd_TriesThePorts(t *testing.T) {
	check := func(cfg Config) map[string]finding {
		found := map[string]finding{}
		for _, f := range (CheckCmd{}).try(t.Context(), cfg) {
			found[f.What] = f
		}
		return found
	}
	w := startCollector(t, testConfig(t)).ready(t)
	cfg := w.cfg
	cfg.MQTT.Embedded.Listen, cfg.HTTP.Listen = strings.TrimPrefix(w.BrokerURL(), "mqtt://"), w.HTTPAddr()
	own := check(cfg)
	for _, what := range []string{"broker", "api"} {
		if f := own[what]; f.Verdict != "ok" || !strings.Contains(f.Detail, fmt.Sprintf("held by this collector, which runs (process %d)", os.Getpid())) {
			t.Errorf("beside its own collector: %v", f)
		}
	}
	cfg.Data = filepath.Join(t.TempDir(), "elsewhere")
	others := check(cfg)
	for what, field := range map[string]string{"broker": "mqtt.embedded.listen", "api": "http.listen"} {
		if f := others[what]; f.Verdict != "fail" || !strings.HasPrefix(f.Detail, field+": ") || !strings.HasSuffix(f.Detail, "(port 0 takes any free port)") {
			t.Errorf("where something else holds the port: %v", f)
		}
	}
}

func TestCheckCmd_TellsWhatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	cfg.Store.URL, cfg.Archive.URL = configs.Secret("sqlite:"+file+"/x/y.db"), "file:"+file+"/archive"
	for _, f := range (CheckCmd{}).try(t.Context(), cfg)[:2] {
		if f.Verdict != "fail" || !strings.Contains(f.Detail, file) {
			t.Errorf("%v, want a failure that names %s", f, file)
		}
	}
}

// An event that the end of the stream has cut is none.
func TestRemote_EventsAreWhole(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "event: record\ndata: {\"seq\":1}\n\nevent: other\ndata: {}\n\nevent: record\n\ndata: {}\n\nevent: record\ndata: {\"se")
	}))
	defer server.Close()
	var got []string
	err := remote{URL: server.URL}.events(t.Context(), nil, "record", func(data []byte) error {
		got = append(got, string(data))
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "ended the stream") || strings.Join(got, ";") != `{"seq":1}` {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRemote_SaysWhatFailed(t *testing.T) {
	w := startCollector(t, testConfig(t)).ready(t)
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "short and stout", http.StatusTeapot)
	}))
	defer stranger.Close()
	unknown := httptest.NewTLSServer(http.NotFoundHandler())
	defer unknown.Close()
	for name, c := range map[string]struct {
		remote remote
		path   string
		want   string
	}{
		"nobody there": {remote{URL: "http://127.0.0.1:1"}, "/x", "no collector answers at http://127.0.0.1:1 (--url or HEIMDALL_URL names another)"},
		"untrusted":    {remote{URL: unknown.URL}, "/x", "HEIMDALL_CA names the certificate of the collector's authority"},
		"not found":    {w.remote, "/api/v1/acquisitions/none", "id: none: no such acquisition"},
		"no collector": {remote{URL: stranger.URL}, "/x", "the collector answers 418: I'm a teapot: short and stout"},
		"field":        {w.remote, "/api/v1/measurements?limit=0", `write a whole number from 1 to 1000`},
		"a list":       {w.remote, "/api/v1/stations", "read the collector's answer to GET /api/v1/stations"},
	} {
		t.Run(name, func(t *testing.T) {
			var number int
			req := c.remote.call(t.Context(), http.MethodGet, c.path, nil, &number)
			if req == nil || !strings.Contains(req.Error(), c.want) {
				t.Errorf("got %v, want %s", req, c.want)
			}
		})
	}
	if err := w.remote.call(t.Context(), http.MethodGet, "/healthz", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestRemote_FindsTheCollector(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := (remote{}).base(); got != defaultURL {
		t.Errorf("without anything: %s", got)
	}
	data, err := openDataDir(DefaultConfig().Data)
	if err != nil {
		t.Fatal(err)
	}
	defer data.close()
	if err := data.announce(running{HTTP: "http://127.0.0.1:4711"}); err != nil {
		t.Fatal(err)
	}
	if got := (remote{}).base(); got != "http://127.0.0.1:4711" {
		t.Errorf("beside ./heimdall-data: %s", got)
	}
	if got := (remote{URL: "http://there/"}).base(); got != "http://there" {
		t.Errorf("with --url: %s", got)
	}
	config, dir := filepath.Join(t.TempDir(), "collector.yaml"), filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(config, fmt.Appendf(nil, "data: %q\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (remote{Config: config}).call(t.Context(), http.MethodGet, "/healthz", nil, nil); err == nil || !strings.Contains(err.Error(), "no collector runs with "+config) {
		t.Errorf("with the configuration of one that does not run: %v", err)
	}
	if err := (remote{Config: config + "x"}).call(t.Context(), http.MethodGet, "/healthz", nil, nil); !errors.As(err, new(usageError)) {
		t.Errorf("with a configuration that is not there: %v", err)
	}
	other, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.announce(running{HTTP: "http://127.0.0.1:4712"}); err != nil {
		t.Fatal(err)
	}
	if got := (remote{Config: config}).base(); got != "http://127.0.0.1:4712" {
		t.Errorf("with --config: %s", got)
	}
	t.Setenv(urlVariable, "http://127.0.0.1:2")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "http://127.0.0.1:2"},
		{[]string{"--config", config}, "http://127.0.0.1:4712"},
		{[]string{"--config", config, "--url", "http://127.0.0.1:1"}, "http://127.0.0.1:1"},
	} {
		_, errs, code := runCommand(t, append([]string{"station", "list"}, c.args...)...)
		if code != exitFailed || !strings.Contains(errs, "no collector answers at "+c.want+" (") {
			t.Errorf("%v: exit code %d: %s; want that of %s", c.args, code, errs, c.want)
		}
	}
	t.Setenv(urlVariable, "127.0.0.1:2")
	for want, flags := range map[string][]string{
		`HEIMDALL_URL "127.0.0.1:2": want http://host:port`: nil,
		`--url "127.0.0.1:1": want http://host:port`:        {"--url", "127.0.0.1:1"},
	} {
		if _, errs, code := runCommand(t, append([]string{"station", "list"}, flags...)...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%v: exit code %d: %s; want %s", flags, code, errs, want)
		}
	}
}

// A token goes through no network in the clear.
func TestRemote_KeepsTheToken(t *testing.T) {
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Authorization") == "Bearer hdt_secret"
	}))
	defer server.Close()
	t.Setenv(tokenVariable, "hdt_secret")
	if err := (remote{URL: server.URL}).call(t.Context(), http.MethodGet, "/", nil, nil); err != nil || !asked {
		t.Errorf("on this computer: asked %v, %v", asked, err)
	}
	err := remote{URL: "http://collector.invalid:8090"}.call(t.Context(), http.MethodGet, "/", nil, nil)
	if !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), "write https://") || strings.Contains(err.Error(), "hdt_") {
		t.Errorf("elsewhere: %v", err)
	}
}

func TestHertz_RoundsToWhatIsSure(t *testing.T) {
	for hz, want := range map[float64]string{12001.145000000001: "12 kHz", 11200: "11.2 kHz", 10: "10 Hz", 3.456: "3.46 Hz", 0: "0 Hz", 999.6: "1 kHz", 2.4e6: "2.4 MHz"} {
		if got := hertz(&hz); got != want {
			t.Errorf("%v: %s, want %s", hz, got, want)
		}
	}
}
