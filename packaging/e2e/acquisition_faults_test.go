package e2e_test

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/demo"
	"github.com/fulgidus/heimdall/packaging/proxy"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// checkRecordings fails unless every recording that is listed can be read, and is what its hash says. It gives their ids.
func (n *network) checkRecordings(t testing.TB) map[string]protocol.Recording {
	t.Helper()
	var list struct{ Items []protocol.Recording }
	if err := n.get("/api/v1/recordings?limit=1000", &list); err != nil {
		t.Fatal(err)
	}
	byID := make(map[string]protocol.Recording)
	for _, r := range list.Items {
		byID[r.ID] = r
		resp, err := http.Get(n.api + "/api/v1/recordings/" + r.ID + ".sigmf-data")
		if err != nil {
			t.Fatal(err)
		}
		sum := sha512.New()
		size, err := io.Copy(sum, resp.Body)
		resp.Body.Close()
		if err != nil || uint64(size) != r.Bytes || hex.EncodeToString(sum.Sum(nil)) != r.SHA512 {
			t.Errorf("recording %s of %s: %d bytes with another hash than stated, %v; want %d", r.ID, r.Station, size, err, r.Bytes)
		}
	}
	return byID
}

// TestAcquisition_Killed: the collector and two agents are killed during ten acquisitions and started again. All of them end,
// with a final state of every station, and a recording is whole or absent.
func TestAcquisition_Killed(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, servers.Postgres(t))
	agents := n.demoStations(t)
	var ids []string
	for i := range 10 {
		a := n.order(t, fmt.Sprintf(`{"frequency_hz": %d, "duration_s": %d, "bandwidth_hz": 12500, "iq": true}`, 145_460_000+i*8_000, 2+i%3))
		ids = append(ids, a.ID)
	}
	time.Sleep(1500 * time.Millisecond) // in the middle of all of them
	var dying sync.WaitGroup
	for _, p := range []*program{n.collector, agents["torino"], agents["milano"]} {
		dying.Go(p.killAndStart)
	}
	dying.Wait()
	n.waitReady()
	done, reasons := 0, map[string]int{}
	for _, id := range ids {
		a := n.ended(t, id, 3*time.Minute)
		stored := n.checkRecordings(t)
		for _, s := range a.Stations {
			reasons[s.Station+" "+string(s.State)+" "+s.ReasonCode]++
			switch {
			case !s.State.Settled():
				t.Errorf("acquisition %s has ended, but station %s is %s", id, s.Station, s.State)
			case s.State == protocol.StationDone:
				done++
				if r, ok := stored[s.Recording]; !ok || r.Station != s.Station || r.Acquisition != id {
					t.Errorf("acquisition %s: station %s is done, and its recording %q is %+v", id, s.Station, s.Recording, r)
				}
			case s.ReasonCode == "" || s.Message == "":
				t.Errorf("acquisition %s: station %s is %s without a reason", id, s.Station, s.State)
			case s.Station != "torino" && s.Station != "milano":
				t.Errorf("acquisition %s: station %s is %s (%s), though it was not touched", id, s.Station, s.State, s.Message)
			}
		}
	}
	t.Logf("ended: %v", reasons)
	if least := 10 * (len(demo.Stations()) - 2); done < least {
		t.Errorf("%d parts are done, want at least %d", done, least)
	}
	n.waitVerified(time.Minute)
}

// linkRate is what the bad link carries, in bytes a second: 256 kbit/s, or what HEIMDALL_LINK says, such as 8000.
func linkRate() int {
	if n, err := strconv.Atoi(os.Getenv("HEIMDALL_LINK")); err == nil && n > 0 {
		return n
	}
	return 32_000
}

// TestAcquisition_BadLink: a capture of 480 kB over a link that breaks each time it has carried 160 kB arrives, and only what was
// on its way at a break is sent twice.
func TestAcquisition_BadLink(t *testing.T) {
	t.Parallel() // it waits most of the time
	const capture, carried = 480_000, 160_000
	n := newNetwork(t, servers.Postgres(t))
	link, err := proxy.New(n.broker.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	n.road = "mqtt://" + link.Addr()
	agent, _ := n.agent(t, "torino", "sim:"+writeFile(t, "scene.yaml", string(demo.Scene()))+"?station=torino", "")
	n.waitOnline(1)
	link.Set(proxy.Faults{BytesPerSecond: linkRate()})
	before, _ := link.Passed()
	stop := make(chan struct{})
	var cutting sync.WaitGroup
	cuts := 0
	cutting.Go(func() {
		every := time.NewTicker(time.Duration(carried) * time.Second / time.Duration(linkRate()))
		defer every.Stop()
		for {
			select {
			case <-stop:
				return
			case <-every.C:
				link.Cut()
				cuts++
			}
		}
	})
	a := n.order(t, `{"frequency_hz": 145500000, "duration_s": 7.5, "bandwidth_hz": 12500, "iq": true}`)
	a = n.ended(t, a.ID, 5*time.Minute)
	close(stop)
	cutting.Wait()
	n.whole(t, a)
	stored := n.checkRecordings(t)
	after, _ := link.Passed()
	t.Logf("%d bytes of samples took %d over the link, with %d breaks", stored[a.Stations[0].Recording].Bytes, after-before, cuts)
	// What a busy machine makes the receiver lose is declared.
	if r := stored[a.Stations[0].Recording]; r.Bytes+4*r.LostSamples != capture {
		t.Errorf("the recording has %d bytes, and %d samples lost, want %d bytes", r.Bytes, r.LostSamples, capture)
	}
	if cuts == 0 || after-before > 2*capture {
		t.Errorf("%d breaks, %d bytes over the link: want breaks, and at most %d bytes", cuts, after-before, 2*capture)
	}
	agent.stop(syscall.SIGTERM)
}
