package e2e_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

var kiwis = map[string]string{
	"df0kl":  "20171127T104156Z_77500_DF0KL_iq.wav",
	"f1jek":  "20171127T104156Z_77500_F1JEK_iq.wav",
	"hb9ryz": "20171127T104156Z_77500_HB9RYZ_iq.wav",
}

// recordedAnchor is an instant that all three recordings hold near their beginning.
var recordedAnchor = time.Date(2017, 11, 27, 10, 41, 58, 0, time.UTC)

func anchored(dir, file string, live time.Time, more string) string {
	return "file:" + filepath.Join(dir, file) + "?pace=real&anchor=" + recordedAnchor.Format(time.RFC3339) + "@" + live.Format(time.RFC3339Nano) + more
}

// TestThreeStations plays the three recordings of one transmitter on one timeline into a real network: what is measured is in
// the database, and what is captured is in the bucket, sample for sample and to the microsecond.
func TestThreeStations(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(testing.TB) string{"PostgreSQL": servers.Postgres, "TimescaleDB": servers.TimescaleDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			dir := recordings(t)
			n := newNetwork(t, database(t))
			live := time.Now().Add(4 * time.Second).UTC().Truncate(time.Millisecond)
			for id, file := range kiwis {
				n.agent(t, id, anchored(dir, file, live, ""), "")
			}
			n.waitOnline(3)
			time.Sleep(time.Until(live.Add(2 * time.Second)))

			out := mustRun(t, "heimdall-collector", "acquire", "77.5k", "5s", "--iq", "--wait", "--json", "--url", n.api)
			var a protocol.Acquisition
			if err := json.Unmarshal([]byte(out), &a); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if a.State != protocol.AcquisitionDone || len(a.Stations) != 3 {
				t.Fatalf("acquisition: %s", out)
			}
			for _, s := range a.Stations {
				if s.State != protocol.StationDone {
					t.Errorf("%s is %s: %s %s", s.Station, s.State, s.ReasonCode, s.Message)
					continue
				}
				checkRecording(t, n, s, readKiwi(t, filepath.Join(dir, kiwis[s.Station])), live)
			}
			checkMeasurements(t, n, live)
			for _, p := range []string{"df0kl", "f1jek", "hb9ryz"} {
				if !strings.Contains(out, p) {
					t.Errorf("no %s in %s", p, out)
				}
			}
			if lines, code := n.verify(false); code != 0 || len(lines) != 3 {
				t.Errorf("verify ends with %d: %+v", code, lines)
			}
		})
	}
}

// checkRecording holds the SigMF pair in the archive against the recording that was played.
func checkRecording(t *testing.T, n *network, s protocol.AcquisitionStation, truth kiwiRecording, live time.Time) {
	t.Helper()
	metaText, data := n.download(t, s.Recording+".sigmf-meta"), n.download(t, s.Recording+".sigmf-data")
	var meta struct {
		Global struct {
			Datatype string  `json:"core:datatype"`
			Rate     float64 `json:"core:sample_rate"`
			SHA512   string  `json:"core:sha512"`
		}
		Captures []struct {
			Frequency float64 `json:"core:frequency"`
			Datetime  string  `json:"core:datetime"`
		}
	}
	if err := json.Unmarshal(metaText, &meta); err != nil {
		t.Fatalf("%s: %v in %s", s.Station, err, metaText)
	}
	if sum := sha512.Sum512(data); hex.EncodeToString(sum[:]) != meta.Global.SHA512 {
		t.Errorf("%s: sha512 of the data is not the one in the metadata", s.Station)
	}
	if meta.Global.Datatype != "ci16_le" || len(meta.Captures) != 1 || meta.Captures[0].Frequency != 77500 {
		t.Errorf("%s: metadata %s", s.Station, metaText)
	}
	if math.Abs(meta.Global.Rate-truth.rate) > 0.005 {
		t.Errorf("%s: rate %.5f Hz, want %.5f", s.Station, meta.Global.Rate, truth.rate)
	}
	if want := int(math.Round(5 * truth.rate)); len(data)/4 != want {
		t.Errorf("%s: %d samples, want %d", s.Station, len(data)/4, want)
	}
	start, err := time.Parse(time.RFC3339Nano, meta.Captures[0].Datetime)
	if err != nil {
		t.Fatalf("%s: %v", s.Station, err)
	}
	recorded := recordedAnchor.Add(start.Sub(live))
	first := int(math.Round(recorded.Sub(truth.at(0)).Seconds() * truth.rate))
	if off := recorded.Sub(truth.at(float64(first))); off.Abs() > time.Microsecond {
		t.Errorf("%s: datetime is %v off the stamps", s.Station, off)
	}
	if first < 0 || 4*first+len(data) > len(truth.data) || !bytes.Equal(data, truth.data[4*first:4*first+len(data)]) {
		t.Errorf("%s: samples differ from the file's from sample %d on", s.Station, first)
	}
}

func (n *network) download(t *testing.T, name string) []byte {
	t.Helper()
	resp, err := http.Get(n.api + "/api/v1/recordings/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("download %s: %s, %v", name, resp.Status, err)
	}
	return body
}

// checkMeasurements looks for rows of all three at 77.5 kHz inside the anchored span.
func checkMeasurements(t *testing.T, n *network, live time.Time) {
	t.Helper()
	for id := range kiwis {
		var list struct {
			Items []struct {
				Time        time.Time
				Measurement struct {
					CenterHz float64 `json:"center_hz"`
				}
			}
		}
		eventually(t, 30*time.Second, "measurements of "+id+" are stored", func() error {
			if err := n.get("/api/v1/measurements?station="+id+"&limit=100", &list); err != nil {
				return err
			}
			if len(list.Items) < 3 {
				return fmt.Errorf("%d are", len(list.Items))
			}
			return nil
		})
		for _, m := range list.Items {
			if m.Measurement.CenterHz != 77500 || m.Time.Before(live.Add(-3*time.Second)) || m.Time.After(live.Add(30*time.Second)) {
				t.Errorf("%s: measurement at %v, %.0f Hz", id, m.Time, m.Measurement.CenterHz)
			}
		}
	}
}

// TestBrokerOutage stops the broker for a minute while three stations repeat their recordings: nothing is missing, nothing is there
// twice, nothing is given up, and the spools are empty at the end.
func TestBrokerOutage(t *testing.T) {
	t.Parallel() // it waits most of the time
	dir := recordings(t)
	n := newNetwork(t, servers.Postgres(t))
	live := time.Now().Add(2 * time.Second).UTC().Truncate(time.Millisecond)
	var agents []*program
	var spools []string
	for id, file := range kiwis {
		p, state := n.agent(t, id, anchored(dir, file, live, "&every=30s"), ", measurement: {every: 250ms}")
		agents, spools = append(agents, p), append(spools, state)
	}
	n.waitOnline(3)
	time.Sleep(10 * time.Second)
	n.broker.Stop()
	time.Sleep(outage())
	if err := n.broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id := range kiwis {
		n.waitDelivered(id)
	}
	for _, p := range agents {
		p.stop(syscall.SIGTERM)
	}
	for i, dir := range spools {
		st, err := spool.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if st.Records != 0 {
			t.Errorf("agent %d still holds %d records", i, st.Records)
		}
	}
	for _, v := range n.waitVerified(time.Minute) {
		if v.Gaps != 0 || v.Rejected != 0 || v.Duplicate != 0 || v.Missing != 0 {
			t.Errorf("%+v", v)
		}
		if v.Last < 100 {
			t.Errorf("%s: only %d records in all", v.Station, v.Last)
		}
	}
}
