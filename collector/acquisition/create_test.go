package acquisition_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// TestConductor_CreatesManyAtOnce: what is asked for while the database is busy is stored together, and one request that it
// refuses spoils no other.
func TestConductor_CreatesManyAtOnce(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.db.slow, r.db.bad = 50*time.Millisecond, "spoilt"
		began := time.Now()
		var asking sync.WaitGroup
		ids := make([]string, 50)
		for i := range ids {
			asking.Go(func() {
				req := protocol.AcquisitionRequest{FrequencyHz: 145.5e6 + float64(i), DurationS: 1, Stations: []string{"north"}}
				if i == 7 {
					req.Label = r.db.bad
				}
				a, err := r.Create(t.Context(), req)
				if (err != nil) != (i == 7) {
					t.Errorf("request %d: %v", i, err)
				} else if err == nil {
					ids[i] = a.ID
				}
			})
		}
		asking.Wait()
		// The first alone, the others together, and then one by one for the sake of the one that is refused.
		if took, most := time.Since(began), 52*r.db.slow; took > most {
			t.Errorf("it took %v, want at most %v", took, most)
		}
		r.db.bad = ""
		began = time.Now()
		for i := range 50 {
			asking.Go(func() {
				if _, err := r.Create(t.Context(), protocol.AcquisitionRequest{FrequencyHz: 145.5e6 + float64(i), DurationS: 1, Stations: []string{"north"}}); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		rest(0)
		if took, most := time.Since(began), 3*r.db.slow; took > most {
			t.Errorf("50 at once took %v, want at most %v: they are not stored together", took, most)
		}
		for i, id := range ids {
			if i != 7 && r.db.get(id).Stations[0].State == protocol.StationQueued {
				t.Errorf("acquisition %d was never sent", i)
			}
		}
		r.db.slow = 0
	})
}

// A store that is away is asked once for all that waits, and each is told.
func TestConductor_AsksAStoreThatIsAwayOnce(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		r.db.slow = 50 * time.Millisecond
		r.db.fail(errors.New("connection refused"))
		var asking sync.WaitGroup
		for i := range 20 {
			asking.Go(func() {
				if _, err := r.Create(t.Context(), protocol.AcquisitionRequest{FrequencyHz: 145.5e6 + float64(i), DurationS: 1}); err == nil {
					t.Error("created without a store")
				}
			})
		}
		asking.Wait()
		if r.db.adds > 2 { // the first alone, the others together
			t.Errorf("the store was asked %d times, want 2", r.db.adds)
		}
		r.db.fail(nil)
	})
}
