-- The hourly view outlives the measurements: what retention removes is first added up here, in the same transaction. Sums
-- are of power (10^(dB/10)), so that they can be added; an absent receiver or step is ''.
CREATE TABLE measurement_1h_removed (
  time           timestamptz NOT NULL,
  station        text COLLATE "C" NOT NULL,
  receiver       text NOT NULL,
  step           text NOT NULL,
  measurements   bigint NOT NULL,
  center_hz      double precision,
  power_sum      double precision,
  power_n        bigint NOT NULL,
  power_dbfs_min real,
  power_dbfs_max real,
  floor_sum      double precision,
  floor_n        bigint NOT NULL,
  snr_db_max     real,
  PRIMARY KEY (station, time, receiver, step)
);

-- An earlier version made the view itself a continuous aggregate of TimescaleDB.
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_class WHERE relname = 'measurement_1h' AND relnamespace = current_schema()::regnamespace
             AND EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')) THEN
    IF EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
               WHERE view_schema = current_schema() AND view_name = 'measurement_1h') THEN
      DROP MATERIALIZED VIEW measurement_1h;
      RETURN;
    END IF;
  END IF;
  DROP VIEW measurement_1h;
END $$;

-- The same of the measurements that are there. TimescaleDB makes it a continuous aggregate. The bounds keep one absurd
-- value from making it fail.
CREATE VIEW measurement_1h_present AS
  SELECT date_trunc('hour', time, 'UTC') AS time, station, receiver, step,
         count(*) AS measurements,
         min(center_hz) AS center_hz,
         sum(power(10, least(greatest(power_dbfs::double precision, -300), 300) / 10)) AS power_sum,
         count(power_dbfs) AS power_n,
         min(power_dbfs) AS power_dbfs_min,
         max(power_dbfs) AS power_dbfs_max,
         sum(power(10, least(greatest(noise_floor_dbfs_hz::double precision, -300), 300) / 10)) AS floor_sum,
         count(noise_floor_dbfs_hz) AS floor_n,
         max(snr_db) AS snr_db_max
  FROM measurement
  GROUP BY 1, 2, 3, 4;

CREATE VIEW measurement_1h AS
  SELECT time, station, nullif(receiver, '') AS receiver, nullif(step, '') AS step,
         sum(measurements)::bigint AS measurements,
         min(center_hz) AS center_hz,
         10 * log(sum(power_sum) / nullif(sum(power_n), 0)) AS power_dbfs,
         min(power_dbfs_min) AS power_dbfs_min,
         max(power_dbfs_max) AS power_dbfs_max,
         10 * log(sum(floor_sum) / nullif(sum(floor_n), 0)) AS noise_floor_dbfs_hz,
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
  key     text COLLATE "C" PRIMARY KEY,    -- object name without extension
  removed timestamptz NOT NULL
);
