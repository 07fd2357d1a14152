package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runLine runs a command line.
func runLine(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e output
	code = run(args, streams{out: &o, err: &e})
	return o.String(), e.String(), code
}

func TestExportRecords_AsCSVAndLines(t *testing.T) {
	w, torino := played(t)
	const count = 1203 // more than a page of the API
	for range count {
		torino.measure()
	}
	torino.detect()
	w.stored(t, "measurements", 1)
	w.stored(t, "detections", 1)
	url := w.remote.URL
	var rows [][]string
	eventually(t, "all measurements", func() bool {
		out, errs, code := runLine(t, "export", "measurements", "--station", "torino", "--from", "-1h", "--min", "145M", "--url", url)
		var err error
		if rows, err = csv.NewReader(strings.NewReader(out)).ReadAll(); err != nil || code != 0 || errs != "" {
			t.Fatalf("ends with %d, %v: %s", code, err, errs)
		}
		return len(rows) == count+1
	})
	seen := make(map[string]bool)
	for _, row := range rows[1:] {
		cells := make(map[string]string)
		for i, name := range rows[0] {
			cells[name] = row[i]
		}
		seen[cells["seq"]] = true
		if cells["station"] != "torino" || cells["power_dbfs"] != "-31.5" || cells["center_hz"] != "145500000" || cells["snr_db"] != "" {
			t.Fatalf("row %v", cells)
		}
	}
	if len(seen) != count {
		t.Errorf("%d different records, want %d", len(seen), count)
	}

	file := filepath.Join(t.TempDir(), "detections.jsonl")
	if _, errs, code := runLine(t, "export", "detections", "--json", "-o", file, "--url", url); code != 0 || errs != "" {
		t.Fatalf("ends with %d: %s", code, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Station   string
		Detection struct {
			SNRDB float64 `json:"snr_db"`
		}
	}
	if err := json.Unmarshal(text, &d); err != nil || d.Station != "torino" || d.Detection.SNRDB != 18 {
		t.Errorf("%v: %s", err, text)
	}
	for _, kind := range []string{"spectra", "health", "gaps"} {
		if out, errs, code := runLine(t, "export", kind, "--url", url); code != 0 || errs != "" || strings.Count(out, "\n") != 1 {
			t.Errorf("%s end with %d: %s%s, want the header alone", kind, code, out, errs)
		}
	}
	if out, errs, code := runLine(t, "export", "measurements", "--station", "nix", "--url", url); code != exitFailed || out != "" || !strings.HasPrefix(errs, "--station nix: ") {
		t.Errorf("an unknown station ends with %d: %s%s", code, out, errs)
	}
	for want, args := range map[string][]string{
		"--min and --max: gaps have no frequency":       {"gaps", "--min", "145M"},
		`--from: "noon" is no time; write one like`:     {"health", "--from", "noon"},
		"--csv and --json can't be used together":       {"spectra", "--csv", "--json"},
		"station: Torino!: a station id has 2 to 32":    {"detections", "--station", "Torino!"},
		`"-soon" is no time; write one like 2026-11-24`: {"detections", "--to", "-soon"},
	} {
		if out, errs, code := runLine(t, append(append([]string{"export"}, args...), "--url", url)...); code != exitUsage || !strings.Contains(errs, want) || out != "" {
			t.Errorf("export %q ends with %d: %s, want %q", args, code, errs, want)
		}
	}
}

func TestExportRecords_TellsThatTheEndIsMissing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/csv" {
			t.Errorf("asks for %s", r.Header.Get("Accept"))
		}
		fmt.Fprint(w, "time,station\r\n2026-11-24T02:00:00Z,torino\r\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	out, errs, code := runLine(t, "export", "health", "--url", server.URL)
	if code != exitFailed || !strings.Contains(errs, "the collector broke off") || !strings.Contains(out, "torino") {
		t.Errorf("ends with %d: %s%s", code, out, errs)
	}
	dir := t.TempDir()
	if _, _, code := runLine(t, "export", "health", "--csv", "-o", filepath.Join(dir, "health.csv"), "--url", server.URL); code != exitFailed || len(folderOf(t, dir)) != 0 {
		t.Errorf("half a file: ends with %d, %v", code, folderOf(t, dir))
	}
	full := errors.New("no space left")
	err := ExportRecordsCmd{remote: remote{URL: server.URL}, kind: "health"}.
		Run(t.Context(), streams{out: writerFunc(func([]byte) (int, error) { return 0, full }), err: io.Discard})
	if !errors.Is(err, full) || strings.Contains(err.Error(), "broke off") {
		t.Errorf("a full disk: %v", err)
	}
}

func TestExportHelp_BeginsWithAnExample(t *testing.T) {
	for _, kind := range []string{"recordings", "measurements", "spectra", "detections", "health", "gaps"} {
		out, _, code := runLine(t, "export", kind, "--help")
		if code != 0 || !strings.HasPrefix(out, "Example:  heimdall-collector export "+kind+" ") {
			t.Errorf("export %s --help ends with %d and begins otherwise:\n%s", kind, code, out)
		}
	}
}
