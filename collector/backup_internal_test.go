package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// TestBackup_OfWhatIsEmbedded takes a collector that has everything inside through backup, loss and restore.
func TestBackup_OfWhatIsEmbedded(t *testing.T) {
	cfg := testConfig(t)
	config, dir := configFile(t, cfg), filepath.Join(t.TempDir(), "backup")
	command := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := run(args, streams{&out, &out})
		return code, out.String()
	}
	if code, says := command("backup", "--config", config, dir); code != exitFailed || !strings.Contains(says, "no collector has used this database yet") {
		t.Errorf("of nothing: ended with %d: %s", code, says)
	}
	w := startCollector(t, cfg).ready(t)
	record := &protocol.Record{
		Station: new("torino"), Spool: []byte("12345678"), Seq: new(uint64(1)), Time: new(time.Now().UnixNano()),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{PowerDbfs: new(float32(-40))}},
	}
	if _, _, err := w.store.Commit(t.Context(), time.Now(), []*protocol.Record{record}, nil); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(cfg.Data, "ca", "ca.pem")
	if err := os.Mkdir(filepath.Dir(ca), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, []byte("authority"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, says := command("backup", "--config", config, dir); code != 0 || !strings.Contains(says, "an SQLite database") {
		t.Fatalf("ended with %d: %s", code, says)
	}
	if code, says := command("backup", "--config", config, dir); code != exitFailed || !strings.Contains(says, "is there already") {
		t.Errorf("over another: ended with %d: %s", code, says)
	}
	if code, says := command("restore", "--config", config, dir); code != exitFailed || !strings.Contains(says, "another collector uses this directory") {
		t.Errorf("beside the collector: ended with %d: %s", code, says)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if code, says := command("restore", "--config", config, dir); code != exitFailed || !strings.Contains(says, "--replace") {
		t.Errorf("over a database: ended with %d: %s", code, says)
	}
	if err := os.RemoveAll(cfg.Data); err != nil {
		t.Fatal(err)
	}
	if code, says := command("restore", "--config", config, dir); code != 0 || !strings.Contains(says, "0 of 0 recordings in the archive") {
		t.Fatalf("ended with %d: %s", code, says)
	}
	if text, err := os.ReadFile(ca); err != nil || string(text) != "authority" {
		t.Errorf("the authority is %q, %v", text, err)
	}
	if code, says := command("verify", "--config", config); code != 0 || !strings.Contains(says, "3132333435363738") {
		t.Errorf("verify ended with %d: %s", code, says)
	}
	// What was damaged is not taken.
	damaged := filepath.Join(dir, databaseName, "heimdall.db")
	text, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(damaged, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, says := command("restore", "--replace", "--config", config, dir); code != exitFailed || !strings.Contains(says, "is not as it was written") {
		t.Errorf("a damaged one: ended with %d: %s", code, says)
	}
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil {
		t.Fatal(err)
	}
	if code, says := command("restore", "--replace", "--config", config, dir); code != exitFailed || !strings.Contains(says, "is no whole backup") {
		t.Errorf("an unfinished one: ended with %d: %s", code, says)
	}
}
