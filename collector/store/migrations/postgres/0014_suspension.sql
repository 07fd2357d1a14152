-- The latest time in which nothing was read of a station, because too much of what it sent was rejected.
CREATE TABLE suspension (
  station text PRIMARY KEY,
  since timestamptz NOT NULL,
  until timestamptz NOT NULL, -- over by then; an operator ends it by setting it to now
  times integer NOT NULL,     -- how often in a row: each one lasts twice as long as the one before
  reason text NOT NULL
);
