package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

func testEnrolment(t *testing.T, s *server) {
	db, other := s.open(t), s.open(t)
	now := time.Now()
	hash := func(name string) []byte { h := sha256.Sum256([]byte(name)); return h[:] }
	add := func(name, station string, expires time.Time) {
		t.Helper()
		if err := db.AddCode(t.Context(), hash(name), protocol.CodeState{Station: station, Expires: expires}, "chief", now); err != nil {
			t.Fatal(err)
		}
	}
	cert := func(serial, station string) protocol.CertificateState {
		return protocol.CertificateState{Serial: serial, Station: station, Expires: now.Add(90 * 24 * time.Hour)}
	}
	use := func(db *store.DB, name string, c protocol.CertificateState, at time.Time) (used, replaced bool) {
		t.Helper()
		used, replaced, err := db.UseCode(t.Context(), hash(name), c, protocol.EnrolmentFacts{Version: "1.2"}, at)
		if err != nil {
			t.Fatal(err)
		}
		return used, replaced
	}
	if _, err := db.Code(t.Context(), hash("none")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown code: %v", err)
	}
	add("old", "torino", now.Add(time.Hour))
	add("new", "torino", now.Add(time.Hour))
	add("short", "genova", now.Add(time.Minute))
	if c, err := db.Code(t.Context(), hash("old")); err != nil || !c.Revoked || c.Used || c.Station != "torino" {
		t.Errorf("a code that another one followed: %+v, %v", c, err)
	}
	for name, c := range map[string]protocol.CertificateState{"old": cert("a", "torino"), "new": cert("b", "genova"), "none": cert("c", "torino")} {
		if used, _ := use(db, name, c, now); used {
			t.Errorf("code %s was used for %s", name, c.Station)
		}
	}
	if used, _ := use(db, "short", cert("d", "genova"), now.Add(time.Minute)); used {
		t.Error("a code that has ended was used")
	}

	// Of a hundred at once, over two collectors, one gets it.
	var won atomic.Int64
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			at := []*store.DB{db, other}[i%2]
			used, _, err := at.UseCode(t.Context(), hash("new"), cert(fmt.Sprintf("e%d", i), "torino"), protocol.EnrolmentFacts{}, now)
			if err != nil {
				t.Error(err)
			}
			if used {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if n := s.number(t, "SELECT count(*) FROM certificate"); won.Load() != 1 || n != 1 {
		t.Errorf("%d of 100 could use the code, %d certificates are noted; want 1 and 1", won.Load(), n)
	}

	if enrolled, ever, err := db.EnrolledStation(t.Context(), "torino", now); err != nil || !enrolled || !ever {
		t.Errorf("torino is not enrolled: %v", err)
	}
	if enrolled, ever, err := db.EnrolledStation(t.Context(), "genova", now); err != nil || enrolled || ever {
		t.Errorf("genova is enrolled %v or was %v: %v", enrolled, ever, err)
	}
	add("again", "torino", now.Add(time.Hour))
	if used, replaced := use(db, "again", cert("f", "torino"), now); !used || !replaced {
		t.Errorf("used %v, replaced %v", used, replaced)
	}
	if list, err := other.RevokedCertificates(t.Context(), now); err != nil || len(list) != 1 || list[0].Station != "torino" {
		t.Errorf("after another enrolment these are revoked: %+v, %v", list, err)
	}
	renew := func(before, serial string) bool {
		t.Helper()
		ok, err := db.RenewCertificate(t.Context(), before, cert(serial, "torino"), now)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !renew("f", "g") || !renew("of a lost time", "h") {
		t.Error("a good certificate was not renewed")
	}
	if n, err := db.RevokeStation(t.Context(), "torino", "revoke", "chief", now); err != nil || n != 3 {
		t.Errorf("revoked %d, %v; want f, g and h", n, err)
	}
	if renew("g", "i") {
		t.Error("a revoked certificate was renewed")
	}
	if enrolled, ever, err := db.EnrolledStation(t.Context(), "torino", now); err != nil || enrolled || !ever {
		t.Errorf("torino is still enrolled: %v", err)
	}
	if list, err := db.RevokedCertificates(t.Context(), now.Add(91*24*time.Hour)); err != nil || len(list) != 0 {
		t.Errorf("after all have ended, these are listed: %v, %v", list, err)
	}
	if _, err := db.RevokeStation(t.Context(), "nosuch", "revoke", "chief", now); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("revoke a station that nobody knows: %v", err)
	}
	add("unused", "aosta", now.Add(time.Hour))
	if n, err := db.RevokeStation(t.Context(), "aosta", "revoke", "chief", now); err != nil || n != 1 {
		t.Errorf("of a station that has nothing but a code, %d were revoked: %v", n, err)
	}
	if _, err := db.Station(t.Context(), "aosta"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a code makes a station: %v", err)
	}
	commit(t, db, measurement("torino", 1, 1), measurement("torino", 2, 1), measurement("genova", 3, 1))
	if spools, err := db.Spools(t.Context(), "torino"); err != nil || len(spools) != 2 || spools[0] != [8]byte(spoolOf(1)) {
		t.Errorf("spools %x, %v", spools, err)
	}
	if n := s.number(t, "SELECT count(*) FROM audit WHERE action IN ('code', 'enrol', 'renew', 'revoke')"); n != 11 {
		t.Errorf("%d entries in the audit, want 5 codes, 2 enrolments, 2 renewals and 2 revocations", n)
	}
}

// Whatever a station was given while it was being revoked is revoked, too.
func testRevokeRace(t *testing.T, s *server) {
	db, other := s.open(t), s.open(t)
	now := time.Now()
	expires := now.Add(90 * 24 * time.Hour)
	for round := range 10 {
		station := fmt.Sprintf("st%d", round)
		hash := sha256.Sum256([]byte(station))
		if err := db.AddCode(t.Context(), hash[:], protocol.CodeState{Station: station, Expires: now.Add(time.Hour)}, "chief", now); err != nil {
			t.Fatal(err)
		}
		serial := func(n int) string { return fmt.Sprintf("%s-%d", station, n) }
		used, _, err := db.UseCode(t.Context(), hash[:], protocol.CertificateState{Serial: serial(0), Station: station, Expires: expires}, protocol.EnrolmentFacts{}, now)
		if err != nil || !used {
			t.Fatalf("used %v, %v", used, err)
		}
		renewing := make(chan struct{})
		begun := sync.OnceFunc(func() { close(renewing) })
		var group sync.WaitGroup
		group.Go(func() {
			for n := 1; n < 100; n++ {
				renewed, err := other.RenewCertificate(t.Context(), serial(n-1), protocol.CertificateState{Serial: serial(n), Station: station, Expires: expires}, now)
				if err != nil {
					t.Error(err)
				}
				if n == 3 || !renewed {
					begun()
				}
				if !renewed {
					return
				}
			}
		})
		<-renewing
		_, err = db.RevokeStation(t.Context(), station, "revoke", "chief", now)
		if err != nil {
			t.Error(err)
		}
		enrolled, _, err := db.EnrolledStation(t.Context(), station, now)
		if err != nil || enrolled {
			t.Errorf("%s has a good certificate after its revocation: %v", station, err)
		}
		group.Wait()
	}
}

// A station that may come no longer is shown as such, until it is let in again.
func testShownRevoked(t *testing.T, s *server) {
	db := s.open(t)
	now := time.Now()
	enrol := func(station, serial string) {
		t.Helper()
		hash := sha256.Sum256([]byte(serial))
		err := errors.Join(db.PutAccount(t.Context(), protocol.Account{Username: station, Kind: protocol.AccountStation}, "chief"),
			db.AddCode(t.Context(), hash[:], protocol.CodeState{Station: station, Expires: now.Add(time.Hour)}, "chief", now))
		if err != nil {
			t.Fatal(err)
		}
		cert := protocol.CertificateState{Serial: serial, Station: station, Expires: now.Add(time.Hour)}
		if used, _, err := db.UseCode(t.Context(), hash[:], cert, protocol.EnrolmentFacts{}, now); err != nil || !used {
			t.Fatalf("used %v, %v", used, err)
		}
	}
	shown := func(station, state string) {
		t.Helper()
		got, err := db.Station(t.Context(), station)
		if err != nil {
			t.Fatal(err)
		}
		if got.State != state || (state != "") != strings.Contains(got.Reason, state+" on ") {
			t.Errorf("%s: state %q, reason %q, want %q", station, got.State, got.Reason, state)
		}
		again := "`heimdall-collector station code " + station + "`"
		if station == "cuneo" { // which has but a password
			again = "`heimdall-collector station add cuneo`"
		}
		if state != "" && !strings.Contains(got.Reason, again) {
			t.Errorf("%s: reason %q, want %s", station, got.Reason, again)
		}
	}
	for _, station := range []string{"torino", "genova"} {
		enrol(station, station+"1")
		enrol(station, station+"2")
		shown(station, "") // one of its certificates was replaced, which is no revocation
		if _, err := db.RevokeStation(t.Context(), station, "revoke", "chief", now); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.RevokeAccount(t.Context(), "torino", "chief"), db.RemoveAccount(t.Context(), "genova", "chief")); err != nil {
		t.Fatal(err)
	}
	shown("torino", protocol.StateRevoked)
	shown("genova", protocol.StateRemoved)
	enrol("torino", "torino3")
	enrol("genova", "genova3")
	shown("torino", "")
	shown("genova", "")

	// One that had a password only is gone with its account, until it has another, or comes to a broker without accounts.
	cuneo := protocol.Account{Username: "cuneo", Kind: protocol.AccountStation, Hash: "h"}
	remove := func() {
		t.Helper()
		if _, err := db.RevokeStation(t.Context(), "cuneo", "remove", "chief", now); err != nil {
			t.Fatal(err)
		}
	}
	online := func(after time.Duration) {
		t.Helper()
		if err := db.SaveStatus(t.Context(), "cuneo", true, now.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.PutAccount(t.Context(), cuneo, "chief"); err != nil {
		t.Fatal(err)
	}
	online(0)
	if err := db.RevokeAccount(t.Context(), "cuneo", "chief"); err != nil {
		t.Fatal(err)
	}
	shown("cuneo", protocol.StateRevoked)
	if err := db.PutAccount(t.Context(), cuneo, "chief"); err != nil {
		t.Fatal(err)
	}
	remove()
	shown("cuneo", "")
	if err := db.RemoveAccount(t.Context(), "cuneo", "chief"); err != nil {
		t.Fatal(err)
	}
	online(time.Second) // its session has not ended yet
	shown("cuneo", protocol.StateRemoved)
	if err := db.PutAccount(t.Context(), cuneo, "chief"); err != nil {
		t.Fatal(err)
	}
	shown("cuneo", "")
	if err := db.RemoveAccount(t.Context(), "cuneo", "chief"); err != nil {
		t.Fatal(err)
	}
	shown("cuneo", protocol.StateRemoved)
	online(time.Hour)
	shown("cuneo", "")
}
