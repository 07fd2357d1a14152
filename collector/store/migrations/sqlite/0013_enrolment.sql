-- How stations got their identity. A code is used once, by whoever is first; of it only a hash is kept.
CREATE TABLE enrolment_code (
  hash    BLOB PRIMARY KEY,
  station TEXT NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  used    INTEGER,
  revoked INTEGER
);
CREATE INDEX enrolment_code_station ON enrolment_code (station);

-- Certificates of stations. One that is revoked stays here until long after its end.
CREATE TABLE certificate (
  serial  TEXT PRIMARY KEY,  -- hexadecimal
  station TEXT NOT NULL,
  issued  INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  revoked INTEGER
);
CREATE INDEX certificate_station ON certificate (station);
