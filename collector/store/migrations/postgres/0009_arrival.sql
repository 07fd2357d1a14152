-- Who lost the connection to the stream of events goes on from where it was: by the order of arrival. Rows come in about that
-- order, so the bounds of each few pages are enough to find them; a B-tree would cost each record half as much again.
CREATE INDEX measurement_received ON measurement USING brin (received) WITH (pages_per_range = 16);
CREATE INDEX spectrum_received ON spectrum USING brin (received) WITH (pages_per_range = 16);
CREATE INDEX detection_received ON detection USING brin (received) WITH (pages_per_range = 16);
CREATE INDEX health_received ON health USING brin (received) WITH (pages_per_range = 16);
CREATE INDEX gap_received ON gap USING brin (received) WITH (pages_per_range = 16);
CREATE INDEX reply_received ON reply USING brin (received) WITH (pages_per_range = 16);
