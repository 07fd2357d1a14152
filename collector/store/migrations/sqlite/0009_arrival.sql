-- Who lost the connection to the stream of events goes on from where it was: by the order of arrival. Rows come in about that
-- order, so each index grows at its end only.
CREATE INDEX measurement_received ON measurement (received);
CREATE INDEX spectrum_received ON spectrum (received);
CREATE INDEX detection_received ON detection (received);
CREATE INDEX health_received ON health (received);
CREATE INDEX gap_received ON gap (received);
CREATE INDEX reply_received ON reply (received);
