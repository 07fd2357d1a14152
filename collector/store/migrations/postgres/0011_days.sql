-- Days, added up from hours: as lasting, and as cheap to ask for.
CREATE VIEW measurement_1d AS
  SELECT date_trunc('day', time, 'UTC') AS time, station, receiver, step,
         sum(measurements)::bigint AS measurements,
         min(center_hz) AS center_hz,
         10 * log(sum(measurements * power(10, power_dbfs / 10)) / nullif(sum(measurements) FILTER (WHERE power_dbfs IS NOT NULL), 0)::double precision) AS power_dbfs,
         min(power_dbfs_min) AS power_dbfs_min,
         max(power_dbfs_max) AS power_dbfs_max,
         10 * log(sum(measurements * power(10, noise_floor_dbfs_hz / 10)) / nullif(sum(measurements) FILTER (WHERE noise_floor_dbfs_hz IS NOT NULL), 0)::double precision) AS noise_floor_dbfs_hz,
         max(snr_db_max) AS snr_db_max
  FROM measurement_1h
  GROUP BY 1, 2, 3, 4;
