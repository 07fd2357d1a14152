package store

import (
	"context"
	"database/sql"

	"github.com/fulgidus/heimdall/protocol"
)

// Detection is what is known of an emission by its id: the record that saw most of it, as in the view detection_latest.
// [ErrNotFound] says that no record of the id is stored.
func (db *DB) Detection(ctx context.Context, id string) (*protocol.StoredRecord, error) {
	stream, _, err := protocol.ParseDetectionID(id)
	if err != nil {
		return nil, wrap(ErrNotFound, "detection %.60q", id)
	}
	t := db.tables[protocol.KindDetection]
	var found *protocol.StoredRecord
	err = db.forEach(ctx, db.read, "SELECT received, "+t.selected()+` FROM detection WHERE station = $1 AND detection_id = $2
		ORDER BY duration_s DESC NULLS LAST, received DESC, seq DESC LIMIT 1`, []any{stream.Station, id}, func(rows *sql.Rows) error {
		stored, err := t.scan(rows)
		found = &stored
		return err
	})
	if err == nil && found == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "detection %s", id)
	}
	return found, nil
}
