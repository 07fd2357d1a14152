CREATE VIEW record AS
  SELECT station, spool, seq, 'measurement' AS kind, time, received FROM measurement
  UNION ALL SELECT station, spool, seq, 'spectrum', time, received FROM spectrum
  UNION ALL SELECT station, spool, seq, 'detection', time, received FROM detection
  UNION ALL SELECT station, spool, seq, 'health', time, received FROM health
  UNION ALL SELECT station, spool, seq, 'gap', time, received FROM gap
  UNION ALL SELECT station, spool, seq, 'reply', time, received FROM reply
  UNION ALL SELECT station, spool, seq, 'iq', time, received FROM iq_chunk
  UNION ALL SELECT station, spool, seq, 'site', time, received FROM site;

-- SQLite has neither a series of numbers nor a function for one byte of a blob: a recursion and two hexadecimal digits
-- stand in. 65536 is the most bins of one spectrum.
CREATE VIEW spectrum_bin AS
  WITH RECURSIVE bin (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM bin WHERE n < 65535)
  SELECT s.time, s.station, s.receiver,
         s.start_hz + s.step_hz * bin.n AS frequency_hz,
         s.offset_dbfs_hz + s.resolution_db * (
           16 * (instr('0123456789ABCDEF', substr(hex(substr(s.levels, bin.n + 1, 1)), 1, 1)) - 1) +
                (instr('0123456789ABCDEF', substr(hex(substr(s.levels, bin.n + 1, 1)), 2, 1)) - 1)) AS dbfs_hz
  FROM spectrum s JOIN bin ON bin.n < length(s.levels);

CREATE VIEW station_last AS
  SELECT s.station, s.number, s.name, s.status, s.state ->> 'state' AS state, s.state ->> 'reason' AS reason,
         max(s.last_seen, coalesce((SELECT max(p.last_received) FROM spool p WHERE p.station = s.station), 0)) AS last_seen,
         (SELECT max(m.time) FROM measurement m WHERE m.station = s.station) AS last_measurement,
         (SELECT max(d.time) FROM detection d WHERE d.station = s.station) AS last_detection
  FROM station s;

-- Levels are averaged as power. The bounds keep one absurd value from making the view fail.
CREATE VIEW measurement_1h AS
  SELECT time - ((time % 3600000000) + 3600000000) % 3600000000 AS time, station, receiver, step,
         count(*) AS measurements,
         min(center_hz) AS center_hz,
         10 * log10(avg(pow(10, min(max(power_dbfs, -300), 300) / 10))) AS power_dbfs,
         min(power_dbfs) AS power_dbfs_min,
         max(power_dbfs) AS power_dbfs_max,
         10 * log10(avg(pow(10, min(max(noise_floor_dbfs_hz, -300), 300) / 10))) AS noise_floor_dbfs_hz,
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

-- The text of a multirange becomes JSON when its brackets do.
CREATE VIEW delivery AS
  WITH range AS (
    SELECT station, spool, what, json_extract(value, '$[0]') AS low, json_extract(value, '$[1]') AS high
    FROM (SELECT station, spool, 'received' AS what, received AS ranges FROM spool
          UNION ALL SELECT station, spool, 'rejected', rejected FROM spool
          UNION ALL SELECT station, spool, 'gapped', gapped FROM spool
          UNION ALL SELECT station, spool, 'released', released FROM spool
          UNION ALL SELECT station, spool, 'pending', pending FROM spool),
         json_each(replace(replace(replace(ranges, '{', '['), '}', ']'), ')', ']')))
  SELECT s.station, s.spool,
         nullif(max(coalesce(max(CASE WHEN what <> 'released' THEN high END), 0) - 1, coalesce(s.last_seq, -1)), -1) AS last,
         coalesce(sum(CASE what WHEN 'received' THEN high - low END), 0) AS received,
         coalesce(sum(CASE what WHEN 'rejected' THEN high - low END), 0) AS rejected,
         coalesce(sum(CASE what WHEN 'gapped' THEN high - low END), 0) AS gapped,
         coalesce(sum(CASE what WHEN 'released' THEN high - low END), 0) AS released,
         coalesce(sum(CASE what WHEN 'pending' THEN high - low END), 0) AS pending,
         s.first_received, s.last_received
  FROM spool s LEFT JOIN range r ON r.station = s.station AND r.spool = s.spool
  GROUP BY s.station, s.spool;
