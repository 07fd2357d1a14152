-- Everything a collector keeps. Times are UTC; the unit of a number is the last part of its name.
-- Text that identifies is compared byte by byte, so that every server sorts and locks in the same order.

CREATE TABLE station (
  station    text COLLATE "C" PRIMARY KEY,
  number     integer NOT NULL UNIQUE,      -- from 1 in order of first sight, never reused
  name       text,
  status     text NOT NULL DEFAULT 'offline',
  status_at  timestamptz,
  info       jsonb,                        -- as the station published it
  info_at    timestamptz,
  state      jsonb,
  state_at   timestamptz,
  first_seen timestamptz NOT NULL,
  last_seen  timestamptz NOT NULL          -- of status, info and state; that of records is in spool.last_received
);

-- One row, locked by whoever gives a station its number.
CREATE TABLE station_number (
  last integer NOT NULL
);
INSERT INTO station_number (last) VALUES (0);

CREATE TABLE receiver (
  station        text COLLATE "C" NOT NULL,
  receiver       text NOT NULL,
  name           text,
  source         text,
  hardware       text,
  center_hz      double precision,
  sample_rate_hz double precision,
  live           boolean,
  plan           jsonb,
  updated        timestamptz NOT NULL,
  PRIMARY KEY (station, receiver)
);

-- Which numbers of a spool are settled, and how. Locked by every transaction that adds records of the spool.
CREATE TABLE spool (
  station        text COLLATE "C" NOT NULL,
  spool          bytea NOT NULL,
  received       int8multirange NOT NULL DEFAULT '{}',  -- stored as records, also those released since
  rejected       int8multirange NOT NULL DEFAULT '{}',  -- stored in the table rejected
  gapped         int8multirange NOT NULL DEFAULT '{}',  -- declared lost by a gap record, and neither received nor rejected
  released       int8multirange NOT NULL DEFAULT '{}',  -- received, and removed by retention
  pending        int8multirange NOT NULL DEFAULT '{}',  -- what the agent's newest health record still held, less what was settled since
  conflict       int8multirange NOT NULL DEFAULT '{}',  -- came again with other content; the first stayed
  last_seq       bigint,                                -- highest number given, by the newest health record
  health_seq     bigint,                                -- number of that record
  first_received timestamptz NOT NULL,
  last_received  timestamptz NOT NULL,
  PRIMARY KEY (station, spool)
);

CREATE TABLE measurement (
  time                       timestamptz NOT NULL,
  time_ns                    smallint NOT NULL,   -- nanoseconds beyond the microsecond
  station                    text COLLATE "C" NOT NULL,
  spool                      bytea NOT NULL,
  seq                        bigint NOT NULL,
  digest                     bytea NOT NULL,      -- first 8 bytes of the SHA-256 of the record as spooled
  received                   timestamptz NOT NULL,
  receiver                   text,
  step                       text,
  time_quality               text,
  time_uncertainty_s         double precision,
  duration_s                 double precision,
  center_hz                  double precision,
  sample_rate_hz             double precision,
  samples                    bigint,
  lost_samples               bigint,
  clipped_fraction           real,
  dc_i                       real,
  dc_q                       real,
  power_dbfs                 real,
  noise_floor_dbfs_hz        real,
  peak_hz                    double precision,
  peak_dbfs                  real,
  snr_db                     real,
  occupied_bandwidth_hz      double precision,
  occupied_low_hz            double precision,
  occupied_high_hz           double precision,
  flags                      jsonb,
  power_dbm                  real,
  noise_floor_dbm_hz         real,
  peak_dbm                   real,
  calibration_uncertainty_db real
);
CREATE UNIQUE INDEX measurement_identity ON measurement (station, spool, seq, time);
CREATE INDEX measurement_time ON measurement (time DESC);
CREATE INDEX measurement_station_time ON measurement (station, time DESC);

CREATE TABLE spectrum (
  time               timestamptz NOT NULL,
  time_ns            smallint NOT NULL,
  station            text COLLATE "C" NOT NULL,
  spool              bytea NOT NULL,
  seq                bigint NOT NULL,
  digest             bytea NOT NULL,
  received           timestamptz NOT NULL,
  receiver           text,
  step               text,
  time_quality       text,
  time_uncertainty_s double precision,
  start_hz           double precision,
  step_hz            double precision,
  averages           bigint,
  enbw_bins          real,
  duration_s         double precision,
  offset_dbfs_hz     real,
  resolution_db      real,
  bins               bigint,
  levels             bytea                -- one byte a bin: level = offset_dbfs_hz + resolution_db * byte
);
CREATE UNIQUE INDEX spectrum_identity ON spectrum (station, spool, seq, time);
CREATE INDEX spectrum_time ON spectrum (time DESC);
CREATE INDEX spectrum_station_time ON spectrum (station, time DESC);

CREATE TABLE detection (
  time                       timestamptz NOT NULL,
  time_ns                    smallint NOT NULL,
  station                    text COLLATE "C" NOT NULL,
  spool                      bytea NOT NULL,
  seq                        bigint NOT NULL,
  digest                     bytea NOT NULL,
  received                   timestamptz NOT NULL,
  receiver                   text,
  step                       text,
  time_quality               text,
  time_uncertainty_s         double precision,
  detection_id               text NOT NULL,   -- {station}-{spool}-{seq} of the first record of the emission
  duration_s                 double precision,
  center_hz                  double precision,
  low_hz                     double precision,
  high_hz                    double precision,
  bandwidth_hz               double precision,
  power_dbfs                 real,
  snr_db                     real,
  open                       boolean,
  flags                      jsonb,
  power_dbm                  real,
  calibration_uncertainty_db real
);
CREATE UNIQUE INDEX detection_identity ON detection (station, spool, seq, time);
CREATE INDEX detection_time ON detection (time DESC);
CREATE INDEX detection_station_time ON detection (station, time DESC);
CREATE INDEX detection_detection_id ON detection (station, detection_id);

CREATE TABLE health (
  time               timestamptz NOT NULL,
  time_ns            smallint NOT NULL,
  station            text COLLATE "C" NOT NULL,
  spool              bytea NOT NULL,
  seq                bigint NOT NULL,
  digest             bytea NOT NULL,
  received           timestamptz NOT NULL,
  receiver           text,
  step               text,
  time_quality       text,
  time_uncertainty_s double precision,
  now                timestamptz,
  unacked            int8multirange,
  last_seq           bigint,
  spool_bytes        bigint,
  spool_limit_bytes  bigint,
  oldest             timestamptz,
  receivers          jsonb,
  clock              jsonb,
  temperature_c      real,
  version            text,
  uptime_s           double precision,
  health_spool       bytea                -- whose numbers it speaks of; null: the record's own identity
);
CREATE UNIQUE INDEX health_identity ON health (station, spool, seq, time);
CREATE INDEX health_time ON health (time DESC);
CREATE INDEX health_station_time ON health (station, time DESC);

CREATE TABLE gap (
  time               timestamptz NOT NULL,
  time_ns            smallint NOT NULL,
  station            text COLLATE "C" NOT NULL,
  spool              bytea NOT NULL,
  seq                bigint NOT NULL,
  digest             bytea NOT NULL,
  received           timestamptz NOT NULL,
  receiver           text,
  step               text,
  time_quality       text,
  time_uncertainty_s double precision,
  gap_spool          bytea,               -- the identity it speaks of; null: the record's own
  ranges             int8multirange,
  lane               text,
  records            bigint,
  bytes              bigint,
  "from"             timestamptz,
  "to"               timestamptz,
  reason             text
);
CREATE UNIQUE INDEX gap_identity ON gap (station, spool, seq, time);
CREATE INDEX gap_time ON gap (time DESC);
CREATE INDEX gap_station_time ON gap (station, time DESC);

CREATE TABLE reply (
  time               timestamptz NOT NULL,
  time_ns            smallint NOT NULL,
  station            text COLLATE "C" NOT NULL,
  spool              bytea NOT NULL,
  seq                bigint NOT NULL,
  digest             bytea NOT NULL,
  received           timestamptz NOT NULL,
  receiver           text,
  step               text,
  time_quality       text,
  time_uncertainty_s double precision,
  command_id         text,
  acquisition        text,
  state              text,
  reason_code        text,
  message            text,
  earliest_start     timestamptz,
  capture_id         text,
  chunks             bigint,              -- of the capture
  capture            jsonb,               -- the manifest
  progress           double precision,
  archive_error      text                 -- why the capture can never become a recording
);
CREATE UNIQUE INDEX reply_identity ON reply (station, spool, seq, time);
CREATE INDEX reply_time ON reply (time DESC);
CREATE INDEX reply_capture ON reply (station, capture_id) WHERE chunks > 0;

CREATE TABLE iq_chunk (
  time               timestamptz NOT NULL,
  time_ns            smallint NOT NULL,
  station            text COLLATE "C" NOT NULL,
  spool              bytea NOT NULL,
  seq                bigint NOT NULL,
  digest             bytea NOT NULL,
  received           timestamptz NOT NULL,
  receiver           text,
  step               text,
  time_quality       text,
  time_uncertainty_s double precision,
  capture_id         text,
  "index"            bigint,
  first_sample       bigint,
  samples            bigint,
  data               bytea                -- null once the recording is complete
);
CREATE UNIQUE INDEX iq_chunk_identity ON iq_chunk (station, spool, seq, time);
CREATE INDEX iq_chunk_capture ON iq_chunk (station, capture_id, "index");

-- Where stations truly are. A place is valid from the time of its record until the next one's.
CREATE TABLE site (
  time               timestamptz NOT NULL,
  time_ns            smallint NOT NULL,
  station            text COLLATE "C" NOT NULL,
  spool              bytea NOT NULL,
  seq                bigint NOT NULL,
  digest             bytea NOT NULL,
  received           timestamptz NOT NULL,
  receiver           text,
  step               text,
  time_quality       text,
  time_uncertainty_s double precision,
  valid_from         timestamptz NOT NULL,
  lat                double precision,
  lon                double precision,
  height_m           double precision,
  uncertainty_m      double precision
);
CREATE UNIQUE INDEX site_identity ON site (station, spool, seq, time);
CREATE INDEX site_valid ON site (station, valid_from DESC);

-- What could not be accepted. Without a spool: bytes that could not be decoded, once per digest.
CREATE TABLE rejected (
  time     timestamptz,
  time_ns  smallint,
  station  text COLLATE "C" NOT NULL,
  spool    bytea,
  seq      bigint,
  digest   bytea NOT NULL,               -- first 8 bytes of the SHA-256 of the payload
  received timestamptz NOT NULL,
  kind     text,
  reason   text NOT NULL,
  bytes    bigint NOT NULL,              -- size of the payload
  payload  bytea                         -- null beyond the daily limit of its station
);
CREATE UNIQUE INDEX rejected_identity ON rejected (station, spool, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX rejected_digest ON rejected (station, digest) WHERE seq IS NULL;
CREATE INDEX rejected_station_received ON rejected (station, received);

CREATE TABLE acquisition (
  id         text COLLATE "C" PRIMARY KEY,
  state      text NOT NULL,
  progress   double precision NOT NULL,
  requested  timestamptz NOT NULL,
  start_time timestamptz,
  label      text,
  request    jsonb NOT NULL
);
CREATE INDEX acquisition_requested ON acquisition (requested DESC, id DESC);
CREATE INDEX acquisition_unsettled ON acquisition (requested) WHERE state IN ('queued', 'running');

CREATE TABLE acquisition_station (
  acquisition text COLLATE "C" NOT NULL,
  ordinal     integer NOT NULL,          -- place in the acquisition's list
  station     text COLLATE "C" NOT NULL,
  state       text NOT NULL,
  reason_code text,
  message     text,
  command_id  text,
  measurement jsonb,
  recording   text,
  PRIMARY KEY (acquisition, ordinal)
);

CREATE TABLE recording (
  id                 text COLLATE "C" PRIMARY KEY,   -- the capture's id
  acquisition        text,
  station            text COLLATE "C" NOT NULL,
  receiver           text,
  start              timestamptz NOT NULL,
  start_ns           smallint NOT NULL,
  asked_start        timestamptz,
  asked_start_ns     smallint,
  duration_s         double precision NOT NULL,
  center_hz          double precision NOT NULL,
  sample_rate_hz     double precision NOT NULL,
  datatype           text NOT NULL,
  samples            bigint NOT NULL,
  lost_samples       bigint NOT NULL,
  bytes              bigint NOT NULL,
  sha512             text NOT NULL,
  time_quality       text NOT NULL,
  time_uncertainty_s double precision NOT NULL,
  key                text NOT NULL,                  -- object name without extension
  stored             timestamptz NOT NULL
);
CREATE INDEX recording_start ON recording (start DESC, id DESC);
CREATE INDEX recording_acquisition ON recording (acquisition);

CREATE TABLE account (
  account text COLLATE "C" PRIMARY KEY,
  kind    text NOT NULL,                 -- station, subscriber or token
  secret  bytea,                         -- a hash, never the secret
  created timestamptz NOT NULL,
  revoked timestamptz
);

CREATE TABLE audit (
  time    timestamptz NOT NULL,
  actor   text NOT NULL,
  action  text NOT NULL,
  subject text,
  detail  jsonb
);
CREATE INDEX audit_time ON audit (time DESC);
