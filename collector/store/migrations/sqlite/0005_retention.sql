-- The hourly view outlives the measurements: what retention removes is first added up here, in the same transaction. Sums
-- are of power (10^(dB/10)), so that they can be added; an absent receiver or step is ''.
CREATE TABLE measurement_1h_removed (
  time           INTEGER NOT NULL,
  station        TEXT NOT NULL,
  receiver       TEXT NOT NULL,
  step           TEXT NOT NULL,
  measurements   INTEGER NOT NULL,
  center_hz      REAL,
  power_sum      REAL,
  power_n        INTEGER NOT NULL,
  power_dbfs_min REAL,
  power_dbfs_max REAL,
  floor_sum      REAL,
  floor_n        INTEGER NOT NULL,
  snr_db_max     REAL,
  PRIMARY KEY (station, time, receiver, step)
);

DROP VIEW measurement_1h;

-- The same of the measurements that are there. The bounds keep one absurd value from making it fail.
CREATE VIEW measurement_1h_present AS
  SELECT time - ((time % 3600000000) + 3600000000) % 3600000000 AS time, station, receiver, step,
         count(*) AS measurements,
         min(center_hz) AS center_hz,
         sum(pow(10, min(max(power_dbfs, -300), 300) / 10)) AS power_sum,
         count(power_dbfs) AS power_n,
         min(power_dbfs) AS power_dbfs_min,
         max(power_dbfs) AS power_dbfs_max,
         sum(pow(10, min(max(noise_floor_dbfs_hz, -300), 300) / 10)) AS floor_sum,
         count(noise_floor_dbfs_hz) AS floor_n,
         max(snr_db) AS snr_db_max
  FROM measurement
  GROUP BY 1, 2, 3, 4;

CREATE VIEW measurement_1h AS
  SELECT time, station, nullif(receiver, '') AS receiver, nullif(step, '') AS step,
         sum(measurements) AS measurements,
         min(center_hz) AS center_hz,
         10 * log10(sum(power_sum) / nullif(sum(power_n), 0)) AS power_dbfs,
         min(power_dbfs_min) AS power_dbfs_min,
         max(power_dbfs_max) AS power_dbfs_max,
         10 * log10(sum(floor_sum) / nullif(sum(floor_n), 0)) AS noise_floor_dbfs_hz,
         max(snr_db_max) AS snr_db_max
  FROM (SELECT time, station, coalesce(receiver, '') AS receiver, coalesce(step, '') AS step, measurements, center_hz, power_sum, power_n,
               power_dbfs_min, power_dbfs_max, floor_sum, floor_n, snr_db_max FROM measurement_1h_present
        UNION ALL
        SELECT time, station, receiver, step, measurements, center_hz, power_sum, power_n,
               power_dbfs_min, power_dbfs_max, floor_sum, floor_n, snr_db_max FROM measurement_1h_removed) AS hours
  GROUP BY time, station, hours.receiver, hours.step;

-- Recordings whose rows retention has removed and whose objects it still has to. So a crash between the two leaves neither a
-- row without objects nor objects that nobody knows of.
CREATE TABLE recording_removed (
  key     TEXT PRIMARY KEY,                -- object name without extension
  removed INTEGER NOT NULL
);
