-- What clients of the service that Heimdall replaces have said of stations, in that service's words.
CREATE TABLE websdr (
  station text PRIMARY KEY,
  said    jsonb NOT NULL,
  created timestamptz NOT NULL,
  updated timestamptz NOT NULL
);
