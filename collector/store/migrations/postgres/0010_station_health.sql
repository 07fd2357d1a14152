-- How stations have been, and how they are, for dashboards. What receivers lost is counted since their agent started; its
-- numbers have no bound, so that one absurd value does not make the view fail.
CREATE VIEW station_health AS
  SELECT h.time, h.station, h.spool, h.received, h.version, h.uptime_s, h.temperature_c,
         h.clock ->> 'quality' AS time_quality,
         (h.clock ->> 'uncertainty_s')::double precision AS time_uncertainty_s,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(h.unacked) r)::double precision AS backlog,
         CASE WHEN h.oldest IS NULL THEN 0 ELSE greatest(extract(epoch FROM h.time - h.oldest), 0) END::double precision AS backlog_age_s,
         h.spool_bytes::double precision / nullif(h.spool_limit_bytes, 0) AS spool_used_ratio,
         (SELECT sum((r ->> 'samples_total')::numeric) FROM jsonb_array_elements(h.receivers) r) AS samples_total,
         (SELECT sum((l ->> 'samples')::numeric) FROM jsonb_array_elements(h.receivers) r, jsonb_array_elements(r -> 'lost') l) AS lost_samples_total
  FROM health h;

CREATE OR REPLACE VIEW station_last AS
  SELECT s.station, s.number, s.name, s.status, s.state ->> 'state' AS state, s.state ->> 'reason' AS reason,
         greatest(s.last_seen, (SELECT max(p.last_received) FROM spool p WHERE p.station = s.station)) AS last_seen,
         (SELECT max(m.time) FROM measurement m WHERE m.station = s.station) AS last_measurement,
         (SELECT max(d.time) FROM detection d WHERE d.station = s.station) AS last_detection,
         s.state ->> 'time_quality' AS time_quality,
         (s.state ->> 'time_uncertainty_s')::double precision AS time_uncertainty_s,
         (s.state ->> 'backlog')::double precision AS backlog,
         (s.state ->> 'backlog_age_s')::double precision AS backlog_age_s,
         (s.state ->> 'spool_used_ratio')::double precision AS spool_used_ratio,
         s.info ->> 'version' AS version,
         h.samples_total, h.lost_samples_total
  FROM station s LEFT JOIN LATERAL (
    SELECT samples_total, lost_samples_total FROM station_health WHERE station = s.station ORDER BY time DESC LIMIT 1) h ON true;
