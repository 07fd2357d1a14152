-- A Gap that goes on to the end of all numbers says that nobody knows how far they went: it counts up to the last known one.
DROP VIEW delivery;

CREATE VIEW delivery AS
  WITH range AS (
    SELECT station, spool, what, json_extract(value, '$[0]') AS low, json_extract(value, '$[1]') AS high
    FROM (SELECT station, spool, 'received' AS what, received AS ranges FROM spool
          UNION ALL SELECT station, spool, 'rejected', rejected FROM spool
          UNION ALL SELECT station, spool, 'gapped', gapped FROM spool
          UNION ALL SELECT station, spool, 'released', released FROM spool
          UNION ALL SELECT station, spool, 'pending', pending FROM spool),
         json_each(replace(replace(replace(ranges, '{', '['), '}', ']'), ')', ']'))),
  known AS (
    SELECT s.station, s.spool, s.first_received, s.last_received,
           nullif(max(coalesce(max(CASE WHEN what <> 'released' AND high < 9223372036854775807 THEN high END), 0) - 1,
                      coalesce(s.last_seq, -1)), -1) AS last
    FROM spool s LEFT JOIN range r ON r.station = s.station AND r.spool = s.spool
    GROUP BY s.station, s.spool)
  SELECT k.station, k.spool, k.last,
         coalesce(sum(CASE what WHEN 'received' THEN high - low END), 0) AS received,
         coalesce(sum(CASE what WHEN 'rejected' THEN high - low END), 0) AS rejected,
         coalesce(sum(CASE WHEN what = 'gapped' AND low <= k.last THEN min(high, k.last + 1) - low END), 0) AS gapped,
         coalesce(sum(CASE what WHEN 'released' THEN high - low END), 0) AS released,
         coalesce(sum(CASE what WHEN 'pending' THEN high - low END), 0) AS pending,
         k.first_received, k.last_received
  FROM known k LEFT JOIN range r ON r.station = k.station AND r.spool = k.spool
  GROUP BY k.station, k.spool;
