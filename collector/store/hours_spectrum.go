package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// spectrumHour identifies a row of spectrum_1h_removed.
type spectrumHour struct {
	time            time.Time
	receiver, step  string
	startHz, stepHz float64
	bins            int
}

// spectrumSums is what such a row holds: of each bin the sum of the power of so many spectra, and the highest level.
type spectrumSums struct {
	spectra int64
	power   []float64
	peak    []float64 // dBFS/Hz
}

// addUpSpectra keeps what the hourly view says of the spectra that go.
func (r *removal) addUpSpectra(ctx context.Context) error {
	hours := make(map[spectrumHour]*spectrumSums)
	from, args := r.db.backend.list(5, r.seqs)
	args = append([]any{r.stream.Station, r.stream.Spool[:], r.first, r.last}, args...)
	err := r.db.forEach(ctx, r.tx, `SELECT time, coalesce(receiver, ''), coalesce(step, ''), coalesce(start_hz, 0), coalesce(step_hz, 0), offset_dbfs_hz, resolution_db, levels
		FROM spectrum WHERE station = $1 AND spool = $2 AND time >= $3 AND time <= $4 AND seq IN (SELECT c1 FROM `+from+")", args,
		func(rows *sql.Rows) error {
			var h spectrumHour
			var offset, resolution sql.NullFloat64
			var levels []byte
			if err := rows.Scan(scanTime{&h.time}, &h.receiver, &h.step, &h.startHz, &h.stepHz, &offset, &resolution, &levels); err != nil {
				return err
			}
			if h.bins = len(levels); h.bins == 0 || !offset.Valid || !resolution.Valid {
				return nil // the view shows no level of it
			}
			h.time = h.time.Truncate(time.Hour)
			if hours[h] == nil {
				hours[h] = newSpectrumSums(h.bins)
			}
			hours[h].add(offset.Float64, resolution.Float64, levels)
			return nil
		})
	if err != nil {
		return err
	}
	for h, s := range hours {
		if err := r.addSpectrumHour(ctx, h, s); err != nil {
			return err
		}
	}
	return nil
}

func newSpectrumSums(bins int) *spectrumSums {
	s := &spectrumSums{power: make([]float64, bins), peak: make([]float64, bins)}
	for i := range s.peak {
		s.peak[i] = math.Inf(-1)
	}
	return s
}

// add takes a spectrum.
func (s *spectrumSums) add(offset, resolution float64, levels []byte) {
	s.spectra++
	for i, b := range levels {
		level := offset + resolution*float64(b)
		s.power[i] += math.Pow(10, min(max(level, -300), 300)/10)
		s.peak[i] = max(s.peak[i], level)
	}
}

// merge takes what was kept before.
func (s *spectrumSums) merge(spectra int64, mean, peak []byte) error {
	if len(mean) != 2*len(s.power) || len(peak) != len(mean) {
		return fmt.Errorf("an hour of %d bins has %d and %d bytes of levels", len(s.power), len(mean), len(peak))
	}
	s.spectra += spectra
	for i := range s.power {
		s.power[i] += float64(spectra) * math.Pow(10, twoBytes(mean[2*i:])/10)
		s.peak[i] = max(s.peak[i], twoBytes(peak[2*i:]))
	}
	return nil
}

// mean is the level of the averaged power of each bin.
func (s *spectrumSums) mean() []float64 {
	levels := make([]float64, len(s.power))
	for i, p := range s.power {
		levels[i] = 10 * math.Log10(p/float64(s.spectra))
	}
	return levels
}

// Levels for ever are hundredths of a dB above lowestLevel: spectra come in halves.
const (
	lowestLevel = -400.0
	levelSteps  = 100
)

func twoBytes(b []byte) float64 { return float64(binary.BigEndian.Uint16(b))/levelSteps + lowestLevel }

func packLevels(levels []float64) []byte {
	var out bytes.Buffer
	for _, level := range levels {
		_ = binary.Write(&out, binary.BigEndian, uint16(math.Round(min(max((level-lowestLevel)*levelSteps, 0), math.MaxUint16)))) // memory takes all
	}
	return out.Bytes()
}

// addSpectrumHour adds to what is kept of an hour.
func (r *removal) addSpectrumHour(ctx context.Context, h spectrumHour, s *spectrumSums) error {
	key := []any{r.stream.Station, h.time, h.receiver, h.step, h.startHz, h.stepHz, h.bins}
	err := r.db.forEach(ctx, r.tx, `SELECT spectra, mean, peak FROM spectrum_1h_removed
		WHERE station = $1 AND time = $2 AND receiver = $3 AND step = $4 AND start_hz = $5 AND step_hz = $6 AND bins = $7`, key,
		func(rows *sql.Rows) error {
			var spectra int64
			var mean, peak []byte
			if err := rows.Scan(&spectra, &mean, &peak); err != nil {
				return err
			}
			return s.merge(spectra, mean, peak)
		})
	if err != nil {
		return err
	}
	_, err = r.db.exec(ctx, r.tx, `INSERT INTO spectrum_1h_removed (station, time, receiver, step, start_hz, step_hz, bins, spectra, mean, peak)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (station, time, receiver, step, start_hz, step_hz, bins) DO UPDATE SET spectra = excluded.spectra, mean = excluded.mean, peak = excluded.peak`,
		append(key, s.spectra, packLevels(s.mean()), packLevels(s.peak))...)
	return err
}
