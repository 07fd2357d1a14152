package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// rollup is an hourly view that outlives its rows. TABLE_1h_present adds up the rows that are there, as a continuous aggregate on
// TimescaleDB; TABLE_1h_removed has the same sums of those that retention has removed; and TABLE_1h is over both.
type rollup struct {
	table   string
	columns []rolled
	views   []string // over TABLE_1h_present, each over the one before it
}

// rolled is a column of TABLE_1h_present and TABLE_1h_removed.
type rolled struct {
	name string
	sql  string // what of the rows, as an aggregate
	join string // of two sums: + adds, least and greatest choose
}

func (r rollup) present() string { return r.table + "_1h_present" }
func (r rollup) removed() string { return r.table + "_1h_removed" }

// linear sums levels as power. The bounds keep one absurd value from making it fail.
func linear(level string) string {
	return "sum(power(10, least(greatest(CAST(" + level + " AS double precision), -300), 300) / 10))"
}

// rollups are those that SQL adds up. It says of rows what the views of the migrations say.
func rollups() []rollup {
	const ended = " FILTER (WHERE open IS NOT TRUE)"
	return []rollup{
		{"measurement", []rolled{
			{"measurements", "count(*)", "+"},
			{"center_hz", "min(center_hz)", "least"},
			{"power_sum", linear("power_dbfs"), "+"},
			{"power_n", "count(power_dbfs)", "+"},
			{"power_dbfs_min", "min(power_dbfs)", "least"},
			{"power_dbfs_max", "max(power_dbfs)", "greatest"},
			{"floor_sum", linear("noise_floor_dbfs_hz"), "+"},
			{"floor_n", "count(noise_floor_dbfs_hz)", "+"},
			{"snr_db_max", "max(snr_db)", "greatest"},
		}, []string{"measurement_1h", "measurement_1d"}},
		{"detection", []rolled{
			{"detections", "count(*)" + ended, "+"},
			{"updates", "count(*) FILTER (WHERE open)", "+"},
			{"duration_s", "sum(least(greatest(duration_s, 0), 1e9))" + ended, "+"},
			{"duration_s_max", "max(duration_s)", "greatest"},
			{"low_hz", "min(coalesce(low_hz, center_hz))", "least"},
			{"high_hz", "max(coalesce(high_hz, center_hz))", "greatest"},
			{"power_sum", linear("power_dbfs") + ended, "+"},
			{"power_n", "count(power_dbfs)" + ended, "+"},
			{"power_dbfs_max", "max(power_dbfs)", "greatest"},
			{"snr_db_max", "max(snr_db)", "greatest"},
		}, []string{"detection_1h"}},
		{"health", []rolled{
			{"reports", "count(*)", "+"},
			{"uptime_s_min", "min(uptime_s)", "least"},
			{"time_uncertainty_s_max", "max(CAST(clock ->> 'uncertainty_s' AS double precision))", "greatest"},
			{"backlog_age_s_max", "max(CAST(extract(epoch FROM time - oldest) AS double precision))", "greatest"},
			{"spool_bytes_max", "max(spool_bytes)", "greatest"},
			{"spool_limit_bytes", "max(spool_limit_bytes)", "greatest"},
			{"temperature_sum", "sum(CAST(temperature_c AS double precision))", "+"},
			{"temperature_n", "count(temperature_c)", "+"},
			{"temperature_c_max", "max(temperature_c)", "greatest"},
		}, []string{"health_1h"}},
	}
}

// selected is what of a group of rows is added up.
func (r rollup) selected() string {
	list := make([]string, len(r.columns))
	for i, c := range r.columns {
		list[i] = c.sql + " AS " + c.name
	}
	return strings.Join(list, ", ")
}

// forSQLite is how SQLite spells what a rollup asks for.
var forSQLite = strings.NewReplacer("least(", "min(", "greatest(", "max(", "date_trunc('hour', time, 'UTC')", "time - ((time % 3600000000) + 3600000000) % 3600000000",
	"extract(epoch FROM time - oldest)", "(time - oldest) / 1e6", "open IS NOT TRUE", "open IS NOT 1")

// addUp keeps what the hourly view says of the rows that go. Nobody else changes these sums, for only the holder of the lease
// removes rows.
func (r *removal) addUp(ctx context.Context) error {
	if r.table == "spectrum" {
		return r.addUpSpectra(ctx)
	}
	all := rollups()
	i := slices.IndexFunc(all, func(up rollup) bool { return up.table == r.table })
	if i < 0 {
		return nil
	}
	up := all[i]
	names, joined := make([]string, len(up.columns)), make([]string, len(up.columns))
	for i, c := range up.columns {
		old, fresh := up.removed()+"."+c.name, "excluded."+c.name
		both := old + " + " + fresh
		if c.join != "+" {
			both = c.join + "(" + old + ", " + fresh + ")"
		}
		names[i], joined[i] = c.name, fmt.Sprintf("%s = coalesce(%s, %s, %s)", c.name, both, old, fresh)
	}
	from, args := r.db.backend.list(5, r.seqs)
	query := fmt.Sprintf(`INSERT INTO %s (station, time, receiver, step, %s)
		SELECT station, date_trunc('hour', time, 'UTC'), coalesce(receiver, ''), coalesce(step, ''), %s
		FROM %s WHERE station = $1 AND spool = $2 AND time >= $3 AND time <= $4 AND seq IN (SELECT c1 FROM %s) GROUP BY 1, 2, 3, 4
		ON CONFLICT (station, time, receiver, step) DO UPDATE SET %s`,
		up.removed(), strings.Join(names, ", "), up.selected(), up.table, from, strings.Join(joined, ", "))
	if _, ok := r.db.backend.(postgresBackend); !ok {
		query = forSQLite.Replace(query)
	}
	_, err := r.db.exec(ctx, r.tx, query, append([]any{r.stream.Station, r.stream.Spool[:], r.first, r.last}, args...)...)
	return err
}
