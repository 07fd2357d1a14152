-- Stations are asked again, told to stop, and asked later: what is still to be done for them is here, so that it outlives the
-- process that began it.
ALTER TABLE acquisition ADD COLUMN cancel_requested timestamptz;
ALTER TABLE acquisition_station ADD COLUMN attempt integer NOT NULL DEFAULT 0;        -- how often the station was asked before
ALTER TABLE acquisition_station ADD COLUMN next_attempt timestamptz;                  -- not asked before
ALTER TABLE acquisition_station ADD COLUMN earliest_start timestamptz;                -- what it could have recorded
ALTER TABLE acquisition_station ADD COLUMN cancel_id text COLLATE "C";                -- the command that tells it to stop, until it has answered
CREATE INDEX acquisition_station_cancel ON acquisition_station (cancel_id) WHERE cancel_id IS NOT NULL;
