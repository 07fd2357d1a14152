-- How stations have been, and how they are, for dashboards. What receivers lost is counted since their agent started.
CREATE VIEW station_health AS
  SELECT h.time, h.station, h.spool, h.received, h.version, h.uptime_s, h.temperature_c,
         h.clock ->> 'quality' AS time_quality,
         h.clock ->> 'uncertainty_s' AS time_uncertainty_s,
         (SELECT coalesce(sum(json_extract(r.value, '$[1]') - json_extract(r.value, '$[0]')), 0)
          FROM json_each(replace(replace(replace(coalesce(h.unacked, '{}'), '{', '['), '}', ']'), ')', ']')) r) AS backlog,
         CASE WHEN h.oldest IS NULL THEN 0 ELSE max(h.time - h.oldest, 0) / 1e6 END AS backlog_age_s,
         1.0 * h.spool_bytes / nullif(h.spool_limit_bytes, 0) AS spool_used_ratio,
         (SELECT sum(r.value ->> 'samples_total') FROM json_each(h.receivers) r) AS samples_total,
         (SELECT sum(l.value ->> 'samples') FROM json_each(h.receivers) r, json_each(r.value, '$.lost') l) AS lost_samples_total
  FROM health h;

DROP VIEW station_last;
CREATE VIEW station_last AS
  SELECT s.station, s.number, s.name, s.status, s.state ->> 'state' AS state, s.state ->> 'reason' AS reason,
         max(s.last_seen, coalesce((SELECT max(p.last_received) FROM spool p WHERE p.station = s.station), 0)) AS last_seen,
         (SELECT max(m.time) FROM measurement m WHERE m.station = s.station) AS last_measurement,
         (SELECT max(d.time) FROM detection d WHERE d.station = s.station) AS last_detection,
         s.state ->> 'time_quality' AS time_quality,
         s.state ->> 'time_uncertainty_s' AS time_uncertainty_s,
         s.state ->> 'backlog' AS backlog,
         s.state ->> 'backlog_age_s' AS backlog_age_s,
         s.state ->> 'spool_used_ratio' AS spool_used_ratio,
         s.info ->> 'version' AS version,
         (SELECT samples_total FROM station_health h WHERE h.station = s.station ORDER BY h.time DESC LIMIT 1) AS samples_total,
         (SELECT lost_samples_total FROM station_health h WHERE h.station = s.station ORDER BY h.time DESC LIMIT 1) AS lost_samples_total
  FROM station s;
