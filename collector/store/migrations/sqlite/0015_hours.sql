-- Hours of detections and health outlive their rows as those of measurements do: what retention removes is first added up in a table
-- …_removed, in the same transaction.
CREATE TABLE detection_1h_removed (
  time INTEGER NOT NULL,
  station TEXT NOT NULL,
  receiver TEXT NOT NULL,
  step TEXT NOT NULL,
  detections INTEGER NOT NULL,
  updates INTEGER NOT NULL,
  duration_s REAL,
  duration_s_max REAL,
  low_hz REAL,
  high_hz REAL,
  power_sum REAL,
  power_n INTEGER NOT NULL,
  power_dbfs_max REAL,
  snr_db_max REAL,
  PRIMARY KEY (station, time, receiver, step)
);

CREATE TABLE health_1h_removed (
  time INTEGER NOT NULL,
  station TEXT NOT NULL,
  receiver TEXT NOT NULL,
  step TEXT NOT NULL,
  reports INTEGER NOT NULL,
  uptime_s_min REAL,
  time_uncertainty_s_max REAL,
  backlog_age_s_max REAL,
  spool_bytes_max INTEGER,
  spool_limit_bytes INTEGER,
  temperature_sum REAL,
  temperature_n INTEGER NOT NULL,
  temperature_c_max REAL,
  PRIMARY KEY (station, time, receiver, step)
);

-- The same of the rows that are there. Bounds keep one absurd value from making a view fail.
CREATE VIEW detection_1h_present AS
  SELECT time - ((time % 3600000000) + 3600000000) % 3600000000 AS time, station, receiver, step,
         count(*) FILTER (WHERE open IS NOT 1) AS detections,
         count(open) FILTER (WHERE NOT (open IS NOT 1)) AS updates,
         sum(min(max(duration_s, 0), 1e9)) FILTER (WHERE open IS NOT 1) AS duration_s,
         max(duration_s) AS duration_s_max,
         min(coalesce(low_hz, center_hz)) AS low_hz,
         max(coalesce(high_hz, center_hz)) AS high_hz,
         sum(power(10, min(max(power_dbfs, -300), 300) / 10)) FILTER (WHERE open IS NOT 1) AS power_sum,
         count(power_dbfs) FILTER (WHERE open IS NOT 1) AS power_n,
         max(power_dbfs) AS power_dbfs_max,
         max(snr_db) AS snr_db_max
  FROM detection
  GROUP BY 1, 2, 3, 4;

CREATE VIEW health_1h_present AS
  SELECT time - ((time % 3600000000) + 3600000000) % 3600000000 AS time, station, receiver, step,
         count(*) AS reports,
         min(uptime_s) AS uptime_s_min,
         max(CAST(clock ->> 'uncertainty_s' AS REAL)) AS time_uncertainty_s_max,
         max((time - oldest) / 1e6) AS backlog_age_s_max,
         max(spool_bytes) AS spool_bytes_max,
         max(spool_limit_bytes) AS spool_limit_bytes,
         sum(temperature_c) AS temperature_sum,
         count(temperature_c) AS temperature_n,
         max(temperature_c) AS temperature_c_max
  FROM health
  GROUP BY 1, 2, 3, 4;

-- Emissions by the hour that they began in, also of those that retention has removed. detections, duration_s and power_dbfs are of those
-- that have ended, of which one may be longer than the hour; updates counts the records of those that were still on air. Levels are
-- averaged as power.
CREATE VIEW detection_1h AS
  SELECT time, station, nullif(receiver, '') AS receiver, nullif(step, '') AS step,
         sum(detections) AS detections,
         sum(updates) AS updates,
         sum(duration_s) AS duration_s,
         max(duration_s_max) AS duration_s_max,
         min(low_hz) AS low_hz,
         max(high_hz) AS high_hz,
         10 * log10(sum(power_sum) / nullif(sum(power_n), 0)) AS power_dbfs,
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
         sum(reports) AS reports,
         min(uptime_s_min) AS uptime_s_min,
         max(time_uncertainty_s_max) AS time_uncertainty_s_max,
         coalesce(max(max(backlog_age_s_max), 0), 0) AS backlog_age_s_max,
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
  time INTEGER NOT NULL,
  station TEXT NOT NULL,
  receiver TEXT NOT NULL,
  step TEXT NOT NULL,
  start_hz REAL NOT NULL,
  step_hz REAL NOT NULL,
  bins INTEGER NOT NULL,
  spectra INTEGER NOT NULL,
  mean BLOB NOT NULL,
  peak BLOB NOT NULL,
  PRIMARY KEY (station, time, receiver, step, start_hz, step_hz, bins)
);

-- The same of the spectra that are there.
CREATE VIEW spectrum_1h_present AS
  WITH RECURSIVE bin (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM bin WHERE n < 65535)
  SELECT s.time - ((s.time % 3600000000) + 3600000000) % 3600000000 AS time, s.station, s.receiver, s.step, s.step_hz, s.start_hz + s.step_hz * bin.n AS frequency_hz,
         count(*) AS spectra,
         sum(power(10, min(max(s.offset_dbfs_hz + s.resolution_db * (16 * (instr('0123456789ABCDEF', substr(hex(substr(s.levels, bin.n + 1, 1)), 1, 1)) - 1) + instr('0123456789ABCDEF', substr(hex(substr(s.levels, bin.n + 1, 1)), 2, 1)) - 1), -300), 300) / 10)) AS power_sum,
         max(s.offset_dbfs_hz + s.resolution_db * (16 * (instr('0123456789ABCDEF', substr(hex(substr(s.levels, bin.n + 1, 1)), 1, 1)) - 1) + instr('0123456789ABCDEF', substr(hex(substr(s.levels, bin.n + 1, 1)), 2, 1)) - 1)) AS dbfs_hz_max
  FROM spectrum s JOIN bin ON bin.n < length(s.levels)
  GROUP BY 1, 2, 3, 4, 5, 6;

-- Spectra by the hour, a row for each bin, also of those that retention has removed. Levels are averaged as power. Ask for a station and a
-- short stretch of time.
CREATE VIEW spectrum_1h AS
  WITH RECURSIVE bin (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM bin WHERE n < 65535)
  SELECT time, station, nullif(receiver, '') AS receiver, nullif(step, '') AS step, step_hz, frequency_hz,
         sum(spectra) AS spectra,
         10 * log10(sum(power_sum) / sum(spectra)) AS dbfs_hz,
         max(dbfs_hz_max) AS dbfs_hz_max
  FROM (SELECT time, station, coalesce(receiver, '') AS receiver, coalesce(step, '') AS step, step_hz, frequency_hz, spectra, power_sum, dbfs_hz_max
        FROM spectrum_1h_present
        UNION ALL
        SELECT r.time, r.station, r.receiver, r.step, r.step_hz, r.start_hz + r.step_hz * bin.n AS frequency_hz, r.spectra,
               r.spectra * power(10, ((256 * (16 * (instr('0123456789ABCDEF', substr(hex(substr(r.mean, 2 * bin.n + 1, 1)), 1, 1)) - 1) + instr('0123456789ABCDEF', substr(hex(substr(r.mean, 2 * bin.n + 1, 1)), 2, 1)) - 1) + (16 * (instr('0123456789ABCDEF', substr(hex(substr(r.mean, 2 * bin.n + 2, 1)), 1, 1)) - 1) + instr('0123456789ABCDEF', substr(hex(substr(r.mean, 2 * bin.n + 2, 1)), 2, 1)) - 1)) / 100.0 - 400) / 10) AS power_sum,
               (256 * (16 * (instr('0123456789ABCDEF', substr(hex(substr(r.peak, 2 * bin.n + 1, 1)), 1, 1)) - 1) + instr('0123456789ABCDEF', substr(hex(substr(r.peak, 2 * bin.n + 1, 1)), 2, 1)) - 1) + (16 * (instr('0123456789ABCDEF', substr(hex(substr(r.peak, 2 * bin.n + 2, 1)), 1, 1)) - 1) + instr('0123456789ABCDEF', substr(hex(substr(r.peak, 2 * bin.n + 2, 1)), 2, 1)) - 1)) / 100.0 - 400 AS dbfs_hz_max
        FROM spectrum_1h_removed r JOIN bin ON bin.n < length(r.mean) / 2) AS hours
  GROUP BY time, station, hours.receiver, hours.step, step_hz, frequency_hz;
