CREATE VIEW record AS
  SELECT station, spool, seq, 'measurement' AS kind, time, received FROM measurement
  UNION ALL SELECT station, spool, seq, 'spectrum', time, received FROM spectrum
  UNION ALL SELECT station, spool, seq, 'detection', time, received FROM detection
  UNION ALL SELECT station, spool, seq, 'health', time, received FROM health
  UNION ALL SELECT station, spool, seq, 'gap', time, received FROM gap
  UNION ALL SELECT station, spool, seq, 'reply', time, received FROM reply
  UNION ALL SELECT station, spool, seq, 'iq', time, received FROM iq_chunk
  UNION ALL SELECT station, spool, seq, 'site', time, received FROM site;

CREATE VIEW spectrum_bin AS
  SELECT s.time, s.station, s.receiver,
         s.start_hz + s.step_hz * bin AS frequency_hz,
         s.offset_dbfs_hz::double precision + s.resolution_db::double precision * get_byte(s.levels, bin) AS dbfs_hz
  FROM spectrum s CROSS JOIN LATERAL generate_series(0, octet_length(s.levels) - 1) AS bin;

CREATE VIEW station_last AS
  SELECT s.station, s.number, s.name, s.status, s.state ->> 'state' AS state, s.state ->> 'reason' AS reason,
         greatest(s.last_seen, (SELECT max(p.last_received) FROM spool p WHERE p.station = s.station)) AS last_seen,
         (SELECT max(m.time) FROM measurement m WHERE m.station = s.station) AS last_measurement,
         (SELECT max(d.time) FROM detection d WHERE d.station = s.station) AS last_detection
  FROM station s;

-- Levels are averaged as power. The bounds keep one absurd value from making the view fail.
CREATE VIEW measurement_1h AS
  SELECT date_trunc('hour', time, 'UTC') AS time, station, receiver, step,
         count(*) AS measurements,
         min(center_hz) AS center_hz,
         10 * log(avg(power(10, least(greatest(power_dbfs::double precision, -300), 300) / 10))) AS power_dbfs,
         min(power_dbfs) AS power_dbfs_min,
         max(power_dbfs) AS power_dbfs_max,
         10 * log(avg(power(10, least(greatest(noise_floor_dbfs_hz::double precision, -300), 300) / 10))) AS noise_floor_dbfs_hz,
         max(snr_db) AS snr_db_max
  FROM measurement
  GROUP BY 1, 2, 3, 4;

CREATE VIEW detection_latest AS
  SELECT detection_id, time, time_ns, station, spool, seq, received, receiver, step, time_quality, time_uncertainty_s,
         duration_s, center_hz, low_hz, high_hz, bandwidth_hz, power_dbfs, snr_db, open, flags, power_dbm,
         calibration_uncertainty_db
  FROM (SELECT d.*, row_number() OVER (
          PARTITION BY station, detection_id ORDER BY duration_s DESC NULLS LAST, received DESC, seq DESC) AS newest
        FROM detection d) AS ranked
  WHERE newest = 1;

CREATE VIEW delivery AS
  SELECT station, spool,
         greatest(upper(received), upper(rejected), upper(gapped), upper(pending), last_seq + 1) - 1 AS last,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(received) r)::bigint AS received,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(rejected) r)::bigint AS rejected,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(gapped) r)::bigint AS gapped,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(released) r)::bigint AS released,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(pending) r)::bigint AS pending,
         first_received, last_received
  FROM spool;
