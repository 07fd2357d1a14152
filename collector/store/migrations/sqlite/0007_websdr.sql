-- What clients of the service that Heimdall replaces have said of stations, in that service's words.
CREATE TABLE websdr (
  station TEXT PRIMARY KEY,
  said    TEXT NOT NULL,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL
);
