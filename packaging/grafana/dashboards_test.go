package grafana_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

type dashboard struct {
	UID        string
	Title      string
	Templating struct {
		List []struct{ Name, Query string }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  source
	GridPos     gridPos
	Options     map[string]any
	Targets     []struct {
		RefID, RawSQL, Format string
		Datasource            source
	}
	FieldConfig struct {
		Defaults  struct{ Unit string }
		Overrides []struct {
			Properties []struct {
				ID    string
				Value any
			}
		}
	}
}

type source struct{ Type, UID string }

type gridPos struct{ X, Y, W, H int }

// dashboards reads all that are shipped.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[file] = d
	}
	return all
}

// TestDashboards_EveryPanelRuns runs the SQL of each panel as Grafana would, as the role that it has, on a database in which a
// station has been heard of.
func TestDashboards_EveryPanelRuns(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{"PostgreSQL": servers.Postgres, "TimescaleDB": servers.TimescaleDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			address := url(t)
			fill(t, address)
			db := asReader(t, address)
			if err := db.QueryRow("SELECT count(*) FROM measurement").Scan(new(int)); err == nil {
				t.Fatal("the reader may read tables: this test shows nothing")
			}
			for file, d := range dashboards(t) {
				for _, v := range d.Templating.List {
					run(t, db, file+" variable "+v.Name, v.Query, "")
				}
				for _, p := range d.Panels {
					for _, target := range p.Targets {
						run(t, db, fmt.Sprintf("%s panel %q", file, p.Title), target.RawSQL, target.Format)
					}
				}
			}
		})
	}
}

// TestDashboards_HoldTogether looks at what Grafana itself would only complain about.
func TestDashboards_HoldTogether(t *testing.T) {
	seen := map[string]bool{}
	for file, d := range dashboards(t) {
		if d.UID == "" || d.Title == "" || seen[d.UID] {
			t.Errorf("%s: wants a title and a uid of its own", file)
		}
		seen[d.UID] = true
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if p.Datasource.UID != "heimdall" || len(p.Targets) == 0 || ids[p.ID] {
				t.Errorf("%s panel %q: wants the data source heimdall, a query and an id of its own", file, p.Title)
			}
			ids[p.ID] = true
		}
	}
}

// knownPanels are the panels of a Grafana without plug-ins, and the options that each has.
var knownPanels = map[string][]string{
	"barchart":   {"barRadius", "barWidth", "colorByField", "fullHighlight", "groupWidth", "legend", "orientation", "showValue", "stacking", "tooltip", "xField", "xTickLabelMaxLength", "xTickLabelRotation", "xTickLabelSpacing"},
	"stat":       {"colorMode", "graphMode", "justifyMode", "orientation", "percentChangeColorMode", "reduceOptions", "showPercentChange", "text", "textMode", "wideLayout"},
	"table":      {"cellHeight", "footer", "frameIndex", "showHeader", "showTypeIcons", "sortBy"},
	"timeseries": {"legend", "orientation", "timezone", "tooltip"},
	"xychart":    {"legend", "mapping", "series", "tooltip"},
}

// knownUnits are those of the panels, of the some 200 that Grafana has; one that it does not know is printed behind the number.
var knownUnits = []string{"", "bytes", "celsius", "dB", "dateTimeAsIso", "dateTimeFromNow", "hertz", "percentunit", "s", "short"}

// TestDashboards_AreOfGrafanasModel looks for what Grafana would leave out without a word.
func TestDashboards_AreOfGrafanasModel(t *testing.T) {
	source := readProvisioned(t, "provisioning/datasources/heimdall.yaml")
	for file, d := range dashboards(t) {
		for i, p := range d.Panels {
			what := fmt.Sprintf("%s panel %q", file, p.Title)
			options, known := knownPanels[p.Type]
			if !known {
				t.Errorf("%s: a panel %q is none that Grafana brings", what, p.Type)
			}
			for option := range p.Options {
				if !slices.Contains(options, option) {
					t.Errorf("%s: a %s has no option %s", what, p.Type, option)
				}
			}
			if !strings.Contains(source, "type: "+p.Datasource.Type+"\n") || !strings.Contains(source, "uid: "+p.Datasource.UID+"\n") {
				t.Errorf("%s: no data source of type %s with the uid %s is provisioned", what, p.Datasource.Type, p.Datasource.UID)
			}
			for _, unit := range p.units() {
				if !slices.Contains(knownUnits, unit) {
					t.Errorf("%s: no unit %q", what, unit)
				}
			}
			if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s: lies outside the 24 columns: %+v", what, g)
			}
			for _, other := range d.Panels[:i] {
				if p.GridPos.overlaps(other.GridPos) {
					t.Errorf("%s: lies over %q", what, other.Title)
				}
			}
			for _, target := range p.Targets {
				if target.Format != "table" && target.Format != "time_series" || target.RefID == "" || target.Datasource != p.Datasource {
					t.Errorf("%s: a query wants a refId, the panel's data source and a format, not %q", what, target.Format)
				}
			}
		}
	}
}

func readProvisioned(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// units are those of a panel and of its columns.
func (p panel) units() []string {
	list := []string{p.FieldConfig.Defaults.Unit}
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if property.ID == "unit" {
				unit, _ := property.Value.(string)
				list = append(list, unit)
			}
		}
	}
	return list
}

func (g gridPos) overlaps(o gridPos) bool {
	return g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H
}

// asReader is one connection that has the role heimdall_read and no other.
func asReader(t *testing.T, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("SET ROLE heimdall_read"); err != nil {
		t.Fatal(err)
	}
	return db
}

var (
	timeFilter = regexp.MustCompile(`\$__timeFilter\((\w+)\)`)
	timeGroup  = regexp.MustCompile(`\$__timeGroup\((\w+), \$__interval\)`)
)

// run wants rows of a query, with what Grafana puts into it put in.
func run(t *testing.T, db *sql.DB, what, query, format string) {
	t.Helper()
	query = timeFilter.ReplaceAllString(query, "$1 BETWEEN now() - interval '1 day' AND now() + interval '1 day'")
	query = timeGroup.ReplaceAllString(query, "floor(extract(epoch FROM $1) / 60) * 60")
	query = strings.ReplaceAll(query, "${station:sqlstring}", "'torino','genova'")
	if strings.Contains(query, "$") {
		t.Errorf("%s: this test does not know all that Grafana is to put into\n%s", what, query)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		t.Errorf("%s: %v\n%s", what, err, query)
		return
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	if format == "time_series" && columns[0] != "time" {
		t.Errorf("%s: a series begins with the column time, not %s", what, columns[0])
	}
	count, known := 0, false
	for rows.Next() {
		count++
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		known = known || *values[len(values)-1].(*any) != nil
	}
	if err := rows.Err(); err != nil || count == 0 || !known {
		t.Errorf("%s: %d rows, whose last column is known: %v, %v\n%s", what, count, known, err, query)
	}
}

// fill makes the tables, and a station that has sent two of each kind of record that dashboards show.
func fill(t *testing.T, address string) {
	t.Helper()
	db, err := store.Open(t.Context(), address, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var records []*protocol.Record
	for i := range 2 {
		at := now.Truncate(time.Minute).Add(time.Duration(i-2) * 5 * time.Second) // both in one minute
		add := func(r *protocol.Record) {
			r.Station, r.Spool, r.Seq, r.Time = new("torino"), []byte("12345678"), new(uint64(len(records)+1)), new(at.UnixNano())
			r.Receiver, r.Step = new("r0"), new("2m")
			records = append(records, r)
		}
		levels, err := protocol.NewSpectrum([]float64{-101, -100, -84, -101}, 145.4e6, 50e3)
		if err != nil {
			t.Fatal(err)
		}
		add(&protocol.Record{Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{PowerDbfs: new(float32(-40)), NoiseFloorDbfsHz: new(float32(-100)), SnrDb: new(float32(20))}}})
		add(&protocol.Record{Body: &protocol.Record_Spectrum{Spectrum: levels}})
		add(&protocol.Record{Body: &protocol.Record_Detection{Detection: &protocol.Detection{CenterHz: new(145.5e6), DurationS: new(1.5), SnrDb: new(float32(20)), Open: new(false)}}})
		add(&protocol.Record{Body: &protocol.Record_Health{Health: &protocol.Health{
			SpoolBytes: new(uint64(1000)), SpoolLimitBytes: new(uint64(2000)), Oldest: new(at.Add(-time.Second).UnixNano()), TemperatureC: new(float32(41)), UptimeS: new(60.0),
			Clock:     &protocol.Clock{Quality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), UncertaintyS: new(0.002)},
			Receivers: []*protocol.ReceiverHealth{{Receiver: new("r0"), SamplesTotal: new(uint64(1000 * (i + 1))), Lost: []*protocol.Loss{{Samples: new(uint64(i))}}}},
		}}})
	}
	if _, _, err := db.Commit(t.Context(), now, records, nil); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		db.SaveStatus(t.Context(), "torino", true, now),
		db.SaveInfo(t.Context(), "torino", &protocol.Info{Station: "torino", Version: "1.4.0"}, now),
		db.SaveState(t.Context(), "torino", &protocol.State{State: "running", TimeQuality: "ntp", TimeUncertaintyS: 0.002, Backlog: 1}, now),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
