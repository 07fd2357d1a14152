package soak

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// orderCaptures asks for samples now and then, of the stations that give them.
func (w *world) orderCaptures(ctx context.Context) error {
	r := sequence(w.options.Seed, "captures")
	for ctx.Err() == nil {
		request := protocol.AcquisitionRequest{
			FrequencyHz: 145.5e6, DurationS: 0.2 + 1.5*r.Float64(), IQ: true, Stations: []string{"captures"},
		}
		if w.options.has("full") && r.IntN(2) == 0 { // an order for a station that was never heard of is refused as a whole
			request.Stations = append(request.Stations, "quota")
		}
		if r.IntN(2) == 0 {
			hz := 12.5e3
			request.BandwidthHz = &hz
		}
		body, err := json.Marshal(request)
		if err != nil {
			return err
		}
		w.order(ctx, w.collectors[r.IntN(2)].api, body)
		wait(ctx, between(r, time.Second, 5*time.Second))
	}
	return nil
}

// order posts an acquisition, unless the collector is down just now.
func (w *world) order(ctx context.Context, api string, body []byte) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/api/v1/acquisitions", bytes.NewReader(body))
	if err != nil {
		w.violate("order a capture: %v", err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusAccepted {
		w.count("captures_ordered")
	}
}

// checkRecordings fetches every recording and compares its samples with their hash.
func (w *world) checkRecordings(ctx context.Context) {
	if !w.options.has("captures") {
		return
	}
	next := "/api/v1/recordings?limit=500"
	for next != "" {
		var list struct {
			Items []struct {
				ID     string `json:"id"`
				SHA512 string `json:"sha512"`
			}
			NextCursor string `json:"next_cursor"`
		}
		if err := get(ctx, w.collectors[0].api+next, func(body io.Reader) error { return json.NewDecoder(body).Decode(&list) }); err != nil {
			w.violate("list recordings: %v", err)
			return
		}
		for _, item := range list.Items {
			hash := sha512.New()
			err := get(ctx, w.collectors[0].api+"/api/v1/recordings/"+item.ID+".sigmf-data", func(body io.Reader) error {
				_, err := io.Copy(hash, body)
				return err
			})
			if got := hex.EncodeToString(hash.Sum(nil)); err != nil || got != item.SHA512 {
				w.violate("recording %s: %v, its samples hash to %.16s, stated is %.16s", item.ID, err, got, item.SHA512)
			}
			w.count("recordings")
		}
		next = ""
		if list.NextCursor != "" {
			next = "/api/v1/recordings?limit=500&cursor=" + list.NextCursor
		}
	}
}

func get(ctx context.Context, url string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return read(resp.Body)
}

// poison sends what no agent sends: noise on everybody's topics, mutilated records under a stranger's name, and now and then
// a flood of sound ones.
func (w *world) poison(ctx context.Context) error {
	r := sequence(w.options.Seed, "poison")
	golden, err := goldenPayloads(filepath.Join(w.options.Module, "protocol", "testdata"))
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if !wait(ctx, between(r, 2*time.Second, 6*time.Second)) {
			return nil
		}
		kinds := protocol.Kinds()
		kind := kinds[r.IntN(len(kinds))]
		target := w.stations[r.IntN(len(w.stations))].id
		var noise, mutilated, flood [][]byte
		for range 30 {
			noise = append(noise, randomBytes(r, 1+r.IntN(300)))
			mutilated = append(mutilated, mutilate(r, golden[r.IntN(len(golden))]))
		}
		if r.IntN(3) == 0 {
			flood = w.flood(r, 2000)
		}
		w.publish("heimdall/v1/"+target+"/"+string(kind), noise, "poison_noise")
		w.publish("heimdall/v1/vandal/"+string(kind), mutilated, "poison_mutilated")
		w.publish("heimdall/v1/flood/measurement", flood, "poison_flood")
	}
	return nil
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func mutilate(r *rand.Rand, payload []byte) []byte {
	p := bytes.Clone(payload)
	for range 1 + r.IntN(4) {
		p[r.IntN(len(p))] = byte(r.Uint32())
	}
	return p[:r.IntN(len(p)+1)]
}

// flood is a run of sound records of a station that sends far too many.
func (w *world) flood(r *rand.Rand, n int) [][]byte {
	spool := [protocol.SpoolBytes]byte(randomBytes(r, protocol.SpoolBytes))
	all := make([][]byte, 0, n)
	for seq := range n {
		at, level, station := time.Now().UnixNano(), float32(-50), "flood"
		payload, err := protocol.Encode(&protocol.Record{
			Station: &station, Time: &at, Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{PowerDbfs: &level}},
		})
		if err != nil {
			w.violate("encode: %v", err)
			return nil
		}
		all = append(all, protocol.Seal(payload, spool, uint64(seq+1)))
	}
	return all
}

func (w *world) publish(topic string, payloads [][]byte, what string) {
	if len(payloads) == 0 {
		return
	}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + w.broker.Addr).SetClientID("vandal").SetAutoReconnect(false).
		SetConnectTimeout(time.Second).SetWriteTimeout(time.Second)
	client := mqtt.NewClient(options)
	if token := client.Connect(); !token.WaitTimeout(2*time.Second) || token.Error() != nil {
		return // the broker is down just now
	}
	defer client.Disconnect(100)
	var last mqtt.Token
	for _, p := range payloads {
		last = client.Publish(topic, 1, false, p)
	}
	if last.WaitTimeout(5*time.Second) && last.Error() == nil {
		w.count(what)
	}
}

func goldenPayloads(root string) ([][]byte, error) {
	var all [][]byte
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".pb" {
			return err
		}
		text, err := os.ReadFile(path)
		if len(text) > 0 && len(text) < 64<<10 {
			all = append(all, text)
		}
		return err
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no golden payloads in %s", root)
	}
	return all, err
}
