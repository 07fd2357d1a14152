-- How stations got their identity. A code is used once, by whoever is first; of it only a hash is kept.
CREATE TABLE enrolment_code (
  hash    bytea PRIMARY KEY,
  station text COLLATE "C" NOT NULL,
  created timestamptz NOT NULL,
  expires timestamptz NOT NULL,
  used    timestamptz,
  revoked timestamptz
);
CREATE INDEX enrolment_code_station ON enrolment_code (station);

-- Certificates of stations. One that is revoked stays here until long after its end.
CREATE TABLE certificate (
  serial  text COLLATE "C" PRIMARY KEY,  -- hexadecimal
  station text COLLATE "C" NOT NULL,
  issued  timestamptz NOT NULL,
  expires timestamptz NOT NULL,
  revoked timestamptz
);
CREATE INDEX certificate_station ON certificate (station);
