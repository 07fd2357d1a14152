-- Everything a collector keeps: the same tables and columns as on PostgreSQL. Times are integer microseconds since
-- 1970-01-01 UTC, truth is 0 or 1, sets of numbers are text in the form of int8multirange, JSON is text.

CREATE TABLE station (
  station    TEXT PRIMARY KEY,
  number     INTEGER NOT NULL UNIQUE,      -- from 1 in order of first sight, never reused
  name       TEXT,
  status     TEXT NOT NULL DEFAULT 'offline',
  status_at  INTEGER,
  info       TEXT,                        -- as the station published it
  info_at    INTEGER,
  state      TEXT,
  state_at   INTEGER,
  first_seen INTEGER NOT NULL,
  last_seen  INTEGER NOT NULL          -- of status, info and state; that of records is in spool.last_received
);

-- One row, locked by whoever gives a station its number.
CREATE TABLE station_number (
  last INTEGER NOT NULL
);
INSERT INTO station_number (last) VALUES (0);

CREATE TABLE receiver (
  station        TEXT NOT NULL,
  receiver       TEXT NOT NULL,
  name           TEXT,
  source         TEXT,
  hardware       TEXT,
  center_hz      REAL,
  sample_rate_hz REAL,
  live           INTEGER,
  plan           TEXT,
  updated        INTEGER NOT NULL,
  PRIMARY KEY (station, receiver)
);

-- Which numbers of a spool are settled, and how. Locked by every transaction that adds records of the spool.
CREATE TABLE spool (
  station        TEXT NOT NULL,
  spool          BLOB NOT NULL,
  received       TEXT NOT NULL DEFAULT '{}',  -- stored as records, also those released since
  rejected       TEXT NOT NULL DEFAULT '{}',  -- stored in the table rejected
  gapped         TEXT NOT NULL DEFAULT '{}',  -- declared lost by a gap record, and neither received nor rejected
  released       TEXT NOT NULL DEFAULT '{}',  -- received, and removed by retention
  pending        TEXT NOT NULL DEFAULT '{}',  -- what the agent's newest health record still held, less what was settled since
  conflict       TEXT NOT NULL DEFAULT '{}',  -- came again with other content; the first stayed
  last_seq       INTEGER,                                -- highest number given, by the newest health record
  health_seq     INTEGER,                                -- number of that record
  first_received INTEGER NOT NULL,
  last_received  INTEGER NOT NULL,
  PRIMARY KEY (station, spool)
);

CREATE TABLE measurement (
  time                       INTEGER NOT NULL,
  time_ns                    INTEGER NOT NULL,   -- nanoseconds beyond the microsecond
  station                    TEXT NOT NULL,
  spool                      BLOB NOT NULL,
  seq                        INTEGER NOT NULL,
  digest                     BLOB NOT NULL,      -- first 8 bytes of the SHA-256 of the record as spooled
  received                   INTEGER NOT NULL,
  receiver                   TEXT,
  step                       TEXT,
  time_quality               TEXT,
  time_uncertainty_s         REAL,
  duration_s                 REAL,
  center_hz                  REAL,
  sample_rate_hz             REAL,
  samples                    INTEGER,
  lost_samples               INTEGER,
  clipped_fraction           REAL,
  dc_i                       REAL,
  dc_q                       REAL,
  power_dbfs                 REAL,
  noise_floor_dbfs_hz        REAL,
  peak_hz                    REAL,
  peak_dbfs                  REAL,
  snr_db                     REAL,
  occupied_bandwidth_hz      REAL,
  occupied_low_hz            REAL,
  occupied_high_hz           REAL,
  flags                      TEXT,
  power_dbm                  REAL,
  noise_floor_dbm_hz         REAL,
  peak_dbm                   REAL,
  calibration_uncertainty_db REAL
);
CREATE UNIQUE INDEX measurement_identity ON measurement (station, spool, seq, time);
CREATE INDEX measurement_time ON measurement (time DESC);
CREATE INDEX measurement_station_time ON measurement (station, time DESC);

CREATE TABLE spectrum (
  time               INTEGER NOT NULL,
  time_ns            INTEGER NOT NULL,
  station            TEXT NOT NULL,
  spool              BLOB NOT NULL,
  seq                INTEGER NOT NULL,
  digest             BLOB NOT NULL,
  received           INTEGER NOT NULL,
  receiver           TEXT,
  step               TEXT,
  time_quality       TEXT,
  time_uncertainty_s REAL,
  start_hz           REAL,
  step_hz            REAL,
  averages           INTEGER,
  enbw_bins          REAL,
  duration_s         REAL,
  offset_dbfs_hz     REAL,
  resolution_db      REAL,
  bins               INTEGER,
  levels             BLOB                -- one byte a bin: level = offset_dbfs_hz + resolution_db * byte
);
CREATE UNIQUE INDEX spectrum_identity ON spectrum (station, spool, seq, time);
CREATE INDEX spectrum_time ON spectrum (time DESC);
CREATE INDEX spectrum_station_time ON spectrum (station, time DESC);

CREATE TABLE detection (
  time                       INTEGER NOT NULL,
  time_ns                    INTEGER NOT NULL,
  station                    TEXT NOT NULL,
  spool                      BLOB NOT NULL,
  seq                        INTEGER NOT NULL,
  digest                     BLOB NOT NULL,
  received                   INTEGER NOT NULL,
  receiver                   TEXT,
  step                       TEXT,
  time_quality               TEXT,
  time_uncertainty_s         REAL,
  detection_id               TEXT NOT NULL,   -- {station}-{spool}-{seq} of the first record of the emission
  duration_s                 REAL,
  center_hz                  REAL,
  low_hz                     REAL,
  high_hz                    REAL,
  bandwidth_hz               REAL,
  power_dbfs                 REAL,
  snr_db                     REAL,
  open                       INTEGER,
  flags                      TEXT,
  power_dbm                  REAL,
  calibration_uncertainty_db REAL
);
CREATE UNIQUE INDEX detection_identity ON detection (station, spool, seq, time);
CREATE INDEX detection_time ON detection (time DESC);
CREATE INDEX detection_station_time ON detection (station, time DESC);
CREATE INDEX detection_detection_id ON detection (station, detection_id);

CREATE TABLE health (
  time               INTEGER NOT NULL,
  time_ns            INTEGER NOT NULL,
  station            TEXT NOT NULL,
  spool              BLOB NOT NULL,
  seq                INTEGER NOT NULL,
  digest             BLOB NOT NULL,
  received           INTEGER NOT NULL,
  receiver           TEXT,
  step               TEXT,
  time_quality       TEXT,
  time_uncertainty_s REAL,
  now                INTEGER,
  unacked            TEXT,
  last_seq           INTEGER,
  spool_bytes        INTEGER,
  spool_limit_bytes  INTEGER,
  oldest             INTEGER,
  receivers          TEXT,
  clock              TEXT,
  temperature_c      REAL,
  version            TEXT,
  uptime_s           REAL,
  health_spool       BLOB                -- whose numbers it speaks of; null: the record's own identity
);
CREATE UNIQUE INDEX health_identity ON health (station, spool, seq, time);
CREATE INDEX health_time ON health (time DESC);
CREATE INDEX health_station_time ON health (station, time DESC);

CREATE TABLE gap (
  time               INTEGER NOT NULL,
  time_ns            INTEGER NOT NULL,
  station            TEXT NOT NULL,
  spool              BLOB NOT NULL,
  seq                INTEGER NOT NULL,
  digest             BLOB NOT NULL,
  received           INTEGER NOT NULL,
  receiver           TEXT,
  step               TEXT,
  time_quality       TEXT,
  time_uncertainty_s REAL,
  gap_spool          BLOB,               -- the identity it speaks of; null: the record's own
  ranges             TEXT,
  lane               TEXT,
  records            INTEGER,
  bytes              INTEGER,
  "from"             INTEGER,
  "to"               INTEGER,
  reason             TEXT
);
CREATE UNIQUE INDEX gap_identity ON gap (station, spool, seq, time);
CREATE INDEX gap_time ON gap (time DESC);
CREATE INDEX gap_station_time ON gap (station, time DESC);

CREATE TABLE reply (
  time               INTEGER NOT NULL,
  time_ns            INTEGER NOT NULL,
  station            TEXT NOT NULL,
  spool              BLOB NOT NULL,
  seq                INTEGER NOT NULL,
  digest             BLOB NOT NULL,
  received           INTEGER NOT NULL,
  receiver           TEXT,
  step               TEXT,
  time_quality       TEXT,
  time_uncertainty_s REAL,
  command_id         TEXT,
  acquisition        TEXT,
  state              TEXT,
  reason_code        TEXT,
  message            TEXT,
  earliest_start     INTEGER,
  capture_id         TEXT,
  chunks             INTEGER,              -- of the capture
  capture            TEXT,               -- the manifest
  progress           REAL,
  archive_error      TEXT                 -- why the capture can never become a recording
);
CREATE UNIQUE INDEX reply_identity ON reply (station, spool, seq, time);
CREATE INDEX reply_time ON reply (time DESC);
CREATE INDEX reply_capture ON reply (station, capture_id) WHERE chunks > 0;

CREATE TABLE iq_chunk (
  time               INTEGER NOT NULL,
  time_ns            INTEGER NOT NULL,
  station            TEXT NOT NULL,
  spool              BLOB NOT NULL,
  seq                INTEGER NOT NULL,
  digest             BLOB NOT NULL,
  received           INTEGER NOT NULL,
  receiver           TEXT,
  step               TEXT,
  time_quality       TEXT,
  time_uncertainty_s REAL,
  capture_id         TEXT,
  "index"            INTEGER,
  first_sample       INTEGER,
  samples            INTEGER,
  data               BLOB                -- null once the recording is complete
);
CREATE UNIQUE INDEX iq_chunk_identity ON iq_chunk (station, spool, seq, time);
CREATE INDEX iq_chunk_capture ON iq_chunk (station, capture_id, "index");

-- Where stations truly are. A place is valid from the time of its record until the next one's.
CREATE TABLE site (
  time               INTEGER NOT NULL,
  time_ns            INTEGER NOT NULL,
  station            TEXT NOT NULL,
  spool              BLOB NOT NULL,
  seq                INTEGER NOT NULL,
  digest             BLOB NOT NULL,
  received           INTEGER NOT NULL,
  receiver           TEXT,
  step               TEXT,
  time_quality       TEXT,
  time_uncertainty_s REAL,
  valid_from         INTEGER NOT NULL,
  lat                REAL,
  lon                REAL,
  height_m           REAL,
  uncertainty_m      REAL
);
CREATE UNIQUE INDEX site_identity ON site (station, spool, seq, time);
CREATE INDEX site_valid ON site (station, valid_from DESC);

-- What could not be accepted. Without a spool: bytes that could not be decoded, once per digest.
CREATE TABLE rejected (
  time     INTEGER,
  time_ns  INTEGER,
  station  TEXT NOT NULL,
  spool    BLOB,
  seq      INTEGER,
  digest   BLOB NOT NULL,               -- first 8 bytes of the SHA-256 of the payload
  received INTEGER NOT NULL,
  kind     TEXT,
  reason   TEXT NOT NULL,
  bytes    INTEGER NOT NULL,              -- size of the payload
  payload  BLOB                         -- null beyond the daily limit of its station
);
CREATE UNIQUE INDEX rejected_identity ON rejected (station, spool, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX rejected_digest ON rejected (station, digest) WHERE seq IS NULL;
CREATE INDEX rejected_station_received ON rejected (station, received);

CREATE TABLE acquisition (
  id         TEXT PRIMARY KEY,
  state      TEXT NOT NULL,
  progress   REAL NOT NULL,
  requested  INTEGER NOT NULL,
  start_time INTEGER,
  label      TEXT,
  request    TEXT NOT NULL
);
CREATE INDEX acquisition_requested ON acquisition (requested DESC, id DESC);
CREATE INDEX acquisition_unsettled ON acquisition (requested) WHERE state IN ('queued', 'running');

CREATE TABLE acquisition_station (
  acquisition TEXT NOT NULL,
  ordinal     INTEGER NOT NULL,          -- place in the acquisition's list
  station     TEXT NOT NULL,
  state       TEXT NOT NULL,
  reason_code TEXT,
  message     TEXT,
  command_id  TEXT,
  measurement TEXT,
  recording   TEXT,
  PRIMARY KEY (acquisition, ordinal)
);

CREATE TABLE recording (
  id                 TEXT PRIMARY KEY,   -- the capture's id
  acquisition        TEXT,
  station            TEXT NOT NULL,
  receiver           TEXT,
  start              INTEGER NOT NULL,
  start_ns           INTEGER NOT NULL,
  asked_start        INTEGER,
  asked_start_ns     INTEGER,
  duration_s         REAL NOT NULL,
  center_hz          REAL NOT NULL,
  sample_rate_hz     REAL NOT NULL,
  datatype           TEXT NOT NULL,
  samples            INTEGER NOT NULL,
  lost_samples       INTEGER NOT NULL,
  bytes              INTEGER NOT NULL,
  sha512             TEXT NOT NULL,
  time_quality       TEXT NOT NULL,
  time_uncertainty_s REAL NOT NULL,
  key                TEXT NOT NULL,                  -- object name without extension
  stored             INTEGER NOT NULL
);
CREATE INDEX recording_start ON recording (start DESC, id DESC);
CREATE INDEX recording_acquisition ON recording (acquisition);

CREATE TABLE account (
  account TEXT PRIMARY KEY,
  kind    TEXT NOT NULL,                 -- station, subscriber or token
  secret  BLOB,                         -- a hash, never the secret
  created INTEGER NOT NULL,
  revoked INTEGER
);

CREATE TABLE audit (
  time    INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT,
  detail  TEXT
);
CREATE INDEX audit_time ON audit (time DESC);
