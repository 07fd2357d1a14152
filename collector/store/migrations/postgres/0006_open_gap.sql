-- A Gap that goes on to the end of all numbers says that nobody knows how far they went: it counts up to the last known one.
CREATE OR REPLACE VIEW delivery AS
  SELECT station, spool, last,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(received) r)::bigint AS received,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(rejected) r)::bigint AS rejected,
         (SELECT coalesce(sum(least(upper(r), last + 1) - lower(r)), 0) FROM unnest(gapped) r WHERE lower(r) <= last)::bigint AS gapped,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(released) r)::bigint AS released,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(pending) r)::bigint AS pending,
         first_received, last_received
  FROM spool, LATERAL (
    SELECT greatest(upper(received), upper(rejected), max(upper(r)), upper(pending), last_seq + 1) - 1 AS last
    FROM unnest(gapped) r WHERE upper(r) < 9223372036854775807) AS known;
