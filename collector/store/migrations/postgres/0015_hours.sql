-- Hours of detections and health outlive their rows as those of measurements do: what retention removes is first added up in a table
-- …_removed, in the same transaction.
CREATE TABLE detection_1h_removed (
  time timestamptz NOT NULL,
  station text COLLATE "C" NOT NULL,
  receiver text NOT NULL,
  step text NOT NULL,
  detections bigint NOT NULL,
  updates bigint NOT NULL,
  duration_s double precision,
  duration_s_max double precision,
  low_hz double precision,
  high_hz double precision,
  power_sum double precision,
  power_n bigint NOT NULL,
  power_dbfs_max real,
  snr_db_max real,
  PRIMARY KEY (station, time, receiver, step)
);

CREATE TABLE health_1h_removed (
  time timestamptz NOT NULL,
  station text COLLATE "C" NOT NULL,
  receiver text NOT NULL,
  step text NOT NULL,
  reports bigint NOT NULL,
  uptime_s_min double precision,
  time_uncertainty_s_max double precision,
  backlog_age_s_max double precision,
  spool_bytes_max bigint,
  spool_limit_bytes bigint,
  temperature_sum double precision,
  temperature_n bigint NOT NULL,
  temperature_c_max real,
  PRIMARY KEY (station, time, receiver, step)
);

-- The same of the rows that are there. TimescaleDB makes continuous aggregates of these two. Bounds keep one absurd value from making a view fail.
CREATE VIEW detection_1h_present AS
  SELECT date_trunc('hour', time, 'UTC') AS time, station, receiver, step,
         count(*) FILTER (WHERE open IS NOT TRUE) AS detections,
         count(open) FILTER (WHERE NOT (open IS NOT TRUE)) AS updates,
         sum(least(greatest(duration_s, 0), 1e9)) FILTER (WHERE open IS NOT TRUE) AS duration_s,
         max(duration_s) AS duration_s_max,
         min(coalesce(low_hz, center_hz)) AS low_hz,
         max(coalesce(high_hz, center_hz)) AS high_hz,
         sum(power(10, least(greatest(power_dbfs::double precision, -300), 300) / 10)) FILTER (WHERE open IS NOT TRUE) AS power_sum,
         count(power_dbfs) FILTER (WHERE open IS NOT TRUE) AS power_n,
         max(power_dbfs) AS power_dbfs_max,
         max(snr_db) AS snr_db_max
  FROM detection
  GROUP BY 1, 2, 3, 4;

CREATE VIEW health_1h_present AS
  SELECT date_trunc('hour', time, 'UTC') AS time, station, receiver, step,
         count(*) AS reports,
         min(uptime_s) AS uptime_s_min,
         max((clock ->> 'uncertainty_s')::double precision) AS time_uncertainty_s_max,
         max(extract(epoch FROM time - oldest)::double precision) AS backlog_age_s_max,
         max(spool_bytes) AS spool_bytes_max,
         max(spool_limit_bytes) AS spool_limit_bytes,
         sum(temperature_c::double precision) AS temperature_sum,
         count(temperature_c) AS temperature_n,
         max(temperature_c) AS temperature_c_max
  FROM health
  GROUP BY 1, 2, 3, 4;

-- Emissions by the hour that they began in, also of those that retention has removed. detections, duration_s and power_dbfs are of those
-- that have ended, of which one may be longer than the hour; updates counts the records of those that were still on air. Levels are
-- averaged as power.
CREATE VIEW detection_1h AS
  SELECT time, station, nullif(receiver, '') AS receiver, nullif(step, '') AS step,
         sum(detections)::bigint AS detections,
         sum(updates)::bigint AS updates,
         sum(duration_s) AS duration_s,
         max(duration_s_max) AS duration_s_max,
         min(low_hz) AS low_hz,
         max(high_hz) AS high_hz,
         10 * log(sum(power_sum) / nullif(sum(power_n), 0)) AS power_dbfs,
         max(power_dbfs_max) AS power_dbfs_max,
         max(snr_db_max) AS snr_db_max
  FROM (SELECT time, station, coalesce(receiver, '') AS receiver, coalesce(step, '') AS step, detections, updates, duration_s, duration_s_max, low_hz,
               high_hz, power_sum, power_n, power_dbfs_max, snr_db_max FROM detection_1h_present
        UNION ALL
        SELECT time, station, receiver, step, detections, updates, duration_s, duration_s_max, low_hz,
               high_hz, power_sum, power_n, power_dbfs_max, snr_db_max FROM detection_1h_removed) AS hours
  GROUP BY time, station, hours.receiver, hours.step;

-- What stations said of themselves by the hour, also of what retention has removed: a report a minute while the agent runs. An uptime_s_min
-- below an hour means that it was started.
CREATE VIEW health_1h AS
  SELECT time, station,
         sum(reports)::bigint AS reports,
         min(uptime_s_min) AS uptime_s_min,
         max(time_uncertainty_s_max) AS time_uncertainty_s_max,
         greatest(max(backlog_age_s_max), 0) AS backlog_age_s_max,
         max(spool_bytes_max) AS spool_bytes_max,
         max(spool_limit_bytes) AS spool_limit_bytes,
         sum(temperature_sum) / nullif(sum(temperature_n), 0) AS temperature_c,
         max(temperature_c_max) AS temperature_c_max
  FROM (SELECT time, station, reports, uptime_s_min, time_uncertainty_s_max, backlog_age_s_max, spool_bytes_max, spool_limit_bytes, temperature_sum,
               temperature_n, temperature_c_max FROM health_1h_present
        UNION ALL
        SELECT time, station, reports, uptime_s_min, time_uncertainty_s_max, backlog_age_s_max, spool_bytes_max, spool_limit_bytes, temperature_sum,
               temperature_n, temperature_c_max FROM health_1h_removed) AS hours
  GROUP BY time, station;

-- Of spectra the mean and the highest level of each bin, two bytes each, the higher first: level = bytes / 100 - 400 dBFS/Hz.
CREATE TABLE spectrum_1h_removed (
  time timestamptz NOT NULL,
  station text COLLATE "C" NOT NULL,
  receiver text NOT NULL,
  step text NOT NULL,
  start_hz double precision NOT NULL,
  step_hz double precision NOT NULL,
  bins bigint NOT NULL,
  spectra bigint NOT NULL,
  mean bytea NOT NULL,
  peak bytea NOT NULL,
  PRIMARY KEY (station, time, receiver, step, start_hz, step_hz, bins)
);

-- The same of the spectra that are there. A continuous aggregate cannot take a row apart, so this stays a view on TimescaleDB, too.
CREATE VIEW spectrum_1h_present AS
  SELECT date_trunc('hour', s.time, 'UTC') AS time, s.station, s.receiver, s.step, s.step_hz, s.start_hz + s.step_hz * bin AS frequency_hz,
         count(*) AS spectra,
         sum(power(10, least(greatest(s.offset_dbfs_hz::double precision + s.resolution_db::double precision * get_byte(s.levels, bin), -300), 300) / 10)) AS power_sum,
         max(s.offset_dbfs_hz::double precision + s.resolution_db::double precision * get_byte(s.levels, bin)) AS dbfs_hz_max
  FROM spectrum s CROSS JOIN LATERAL generate_series(0, octet_length(s.levels) - 1) AS bin
  GROUP BY 1, 2, 3, 4, 5, 6;

-- Spectra by the hour, a row for each bin, also of those that retention has removed. Levels are averaged as power. Ask for a station and a
-- short stretch of time.
CREATE VIEW spectrum_1h AS
  SELECT time, station, nullif(receiver, '') AS receiver, nullif(step, '') AS step, step_hz, frequency_hz,
         sum(spectra)::bigint AS spectra,
         10 * log(sum(power_sum) / sum(spectra)) AS dbfs_hz,
         max(dbfs_hz_max) AS dbfs_hz_max
  FROM (SELECT time, station, coalesce(receiver, '') AS receiver, coalesce(step, '') AS step, step_hz, frequency_hz, spectra, power_sum, dbfs_hz_max
        FROM spectrum_1h_present
        UNION ALL
        SELECT r.time, r.station, r.receiver, r.step, r.step_hz, r.start_hz + r.step_hz * bin AS frequency_hz, r.spectra,
               r.spectra * power(10, ((256 * get_byte(r.mean, 2 * bin) + get_byte(r.mean, 2 * bin + 1)) / 100.0::double precision - 400) / 10) AS power_sum,
               (256 * get_byte(r.peak, 2 * bin) + get_byte(r.peak, 2 * bin + 1)) / 100.0::double precision - 400 AS dbfs_hz_max
        FROM spectrum_1h_removed r CROSS JOIN LATERAL generate_series(0, octet_length(r.mean) / 2 - 1) AS bin) AS hours
  GROUP BY time, station, hours.receiver, hours.step, step_hz, frequency_hz;
