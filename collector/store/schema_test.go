package store_test

import (
	stdcmp "cmp"
	"database/sql"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write SCHEMA.md again")

const schemaHead = `# Tables and views

Made from the migrations by ` + "`go test ./collector/store -run TestSchema -update`" + `; do not edit. Types are PostgreSQL's. SQLite has the same
names: times there are integer microseconds UTC, multiranges text in PostgreSQL's form, JSON text, truth 0 or 1.

Views are part of the contract, and the role ` + "`heimdall_read`" + ` sees them and nothing else. Tables may change with a version. Every table filled from
records begins with the same columns; a record counts by ` + "`(station, spool, seq)`" + `. On TimescaleDB measurement, spectrum, detection and health are hypertables.

`

// TestSchema_IsDescribed compares SCHEMA.md with what the migrations make in a real database, and with what they say of it.
func TestSchema_IsDescribed(t *testing.T) {
	t.Parallel()
	s := postgresServer(t)
	if err := s.open(t).Close(); err != nil {
		t.Fatal(err)
	}
	said := comments(t)
	maps.Copy(said, unsaid())
	var text strings.Builder
	text.WriteString(schemaHead)
	for _, kind := range []struct{ title, is string }{{"Views", "VIEW"}, {"Tables", "BASE TABLE"}} {
		fmt.Fprintf(&text, "## %s\n\n", kind.title)
		for _, name := range names(t, s.raw, kind.is) {
			fmt.Fprintf(&text, "### %s\n\n", name)
			if of := said[name]; of != "" {
				fmt.Fprintf(&text, "%s\n\n", of)
			}
			text.WriteString("| column | type | |\n|---|---|---|\n")
			for _, c := range columnsOf(t, s.raw, name) {
				fmt.Fprintf(&text, "| `%s` | %s | %s |\n", c.name, c.kind, strings.ReplaceAll(stdcmp.Or(said[name+"."+c.name], said["*."+c.name]), "|", `\|`))
			}
			text.WriteString("\n")
		}
	}
	want := strings.TrimRight(text.String(), "\n") + "\n"
	if *update {
		if err := os.WriteFile("SCHEMA.md", []byte(want), 0o644); err != nil { //nolint:gosec // a page for everybody
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("SCHEMA.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("SCHEMA.md is not of these migrations; write it again with -update (-want +got):\n%s", diff)
	}
}

// unsaid is what migrations of released versions, which are never edited, do not say.
func unsaid() map[string]string {
	return map[string]string{
		"record":           "Every record there is, of all kinds.",
		"spectrum_bin":     "Spectra, a row for each bin. Ask for one time or a short stretch: a spectrum has 1024.",
		"station_last":     "How each station is.",
		"station_health":   "How each station was, by its health records: one a minute. What receivers lost is counted since their agent started.",
		"measurement_1h":   "Measurements by the hour, also of those that retention has removed. Levels are averaged as power.",
		"measurement_1d":   "The same by the day.",
		"detection_latest": "Each emission once, by the record that knows most of it.",
		"delivery":         "How many records of each spool are settled, and how; `heimdall-collector verify` compares the rows with it.",
		"*.time":           "of the first sample, to the microsecond",
		"*.time_ns":        "nanoseconds beyond the microsecond",
		"*.digest":         "first 8 bytes of the SHA-256 of the record as spooled",
		"*.spool":          "in whose numbers seq counts: made new with each spool file",
		"*.seq":            "from 1 in each spool",
		"*.backlog":        "records held unacknowledged",
		"*.snr_db":         "S/N inside the occupied bandwidth",
	}
}

func names(t *testing.T, db *sql.DB, kind string) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = $1 ORDER BY 1", kind)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		list = append(list, name)
	}
	if err := rows.Err(); err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return list
}

type describedColumn struct{ name, kind string }

func columnsOf(t *testing.T, db *sql.DB, table string) (list []describedColumn) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ', not null' ELSE '' END
		FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c describedColumn
		if err := rows.Scan(&c.name, &c.kind); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil || len(list) == 0 {
		t.Fatal(table, err)
	}
	return list
}

var (
	beginning = regexp.MustCompile(`^CREATE (?:OR REPLACE )?(?:TABLE|VIEW) (\w+)`)
	added     = regexp.MustCompile(`^ALTER TABLE (\w+) ADD COLUMN "?(\w+)"?[^-]*-- (.+)$`)
	column    = regexp.MustCompile(`^  "?(\w+)"? [^-]*-- (.+)$`)
)

// comments are what migrations say of tables and views ("name") and of columns ("name.column"). The later one counts.
func comments(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("migrations/postgres/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	said := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var before []string
		in := ""
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			switch m := beginning.FindStringSubmatch(line); {
			case strings.HasPrefix(line, "-- "):
				before = append(before, strings.TrimPrefix(line, "-- "))
				continue
			case m != nil:
				in = m[1]
				if len(before) > 0 {
					said[in] = strings.Join(before, "\n")
				}
			case strings.HasPrefix(line, ")"):
				in = ""
			}
			before = nil
			if m := added.FindStringSubmatch(line); m != nil {
				said[m[1]+"."+m[2]] = m[3]
			} else if m := column.FindStringSubmatch(line); m != nil && in != "" {
				said[in+"."+m[1]] = m[2]
			}
		}
	}
	return said
}
