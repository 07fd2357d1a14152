-- The latest time in which nothing was read of a station, because too much of what it sent was rejected.
CREATE TABLE suspension (
  station TEXT PRIMARY KEY,
  since INTEGER NOT NULL,
  until INTEGER NOT NULL, -- over by then; an operator ends it by setting it to now
  times INTEGER NOT NULL,     -- how often in a row: each one lasts twice as long as the one before
  reason TEXT NOT NULL
);
