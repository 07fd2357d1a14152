-- A capture's id is only unique at its station: two stations may use the same one. The recording's id is the capture's, as
-- before, unless another station's recording has it: then it is CAPTURE@STATION.
ALTER TABLE recording ADD COLUMN capture_id text COLLATE "C" NOT NULL DEFAULT '';
UPDATE recording SET capture_id = id;
CREATE UNIQUE INDEX recording_capture ON recording (station, capture_id);
