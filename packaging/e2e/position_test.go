package e2e_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// planted is where a station is. Its digits stand in no other number: there is no level above 80 dB and no second 83.
type planted struct {
	station, publish string
	lat, lon         float64
	height           float64
	uncertainty      float64
	locator          string // a square that is smaller than a cell
}

var plantedStations = []planted{
	{"shown", "exact", 83.667352, -173.852917, 547.8263, 91.26483, "AR33bq"},
	{"blurred", "10km", 83.641739, -173.827463, 612.3471, 74.37591, "AR33cp"},
	{"unseen", "hidden", 83.612817, -173.614628, 583.2914, 86.91357, "AR33eo"},
}

// plantedScene has the stations where they are, so that a source that tells what it knows is found out, too.
const plantedScene = `
seed: 11
epoch: 2026-01-01T00:00:00Z
noise: {floor_dbfs_hz: -110}
path: {model: free_space, reference_dbfs: 63}
stations:
%semitters:
  - {id: beacon, position: [83.7, -173.5, 300], center: 145.503M, modulation: {kind: tone}, power_dbm: 14, schedule: {start: 0s, every: 500ms, duration: 100ms}}
`

// traces are what would give a place away: as text, cut or rounded to 110 m or less, and as numbers are written in binary.
func (p planted) traces() map[string][]byte {
	list := map[string][]byte{"the locator": []byte(p.locator), "the lower-case locator": []byte(strings.ToLower(p.locator))}
	text := func(name, digits string) { list[name+" "+digits] = []byte(digits) }
	bits := func(name string, v float64) {
		for order, to := range map[string]binary.AppendByteOrder{"little": binary.LittleEndian, "big": binary.BigEndian} {
			list[fmt.Sprintf("%s %v as double, %s end first", name, v, order)] = to.AppendUint64(nil, math.Float64bits(v))
			list[fmt.Sprintf("%s %v as float, %s end first", name, v, order)] = to.AppendUint32(nil, math.Float32bits(float32(v)))
		}
	}
	for name, v := range map[string]float64{"latitude": p.lat, "longitude": p.lon, "height": p.height, "uncertainty": p.uncertainty} {
		bits(name, v)
		size := math.Abs(v)
		for decimals := 3; decimals <= 6; decimals++ {
			unit := math.Pow10(decimals)
			for _, near := range []float64{math.Floor(size*unit) / unit, math.Round(size*unit) / unit} {
				text(name, strconv.FormatFloat(near, 'f', decimals, 64))
				bits(name, math.Copysign(near, v))
			}
		}
		if name == "latitude" || name == "longitude" {
			text(name, strconv.FormatFloat(size*1e6, 'f', 0, 64))
			text(name, strconv.FormatFloat(size*math.Pi/180, 'f', 6, 64))
			bits(name, v*math.Pi/180)
		}
	}
	return list
}

// found is where something of a station's place was.
type found struct {
	t      *testing.T
	traces map[string]map[string][]byte

	mu     sync.Mutex          // guards the rest
	places map[string][]string // by station
	looked map[string]bool
}

func newFound(t *testing.T) *found {
	f := &found{t: t, traces: map[string]map[string][]byte{}, places: map[string][]string{}, looked: map[string]bool{}}
	for _, p := range plantedStations {
		f.traces[p.station] = p.traces()
	}
	return f
}

// look searches what somebody was given. Only the place of a station that publishes it may be there.
func (f *found) look(where string, given []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked[where] = true
	for station, traces := range f.traces {
		for what, trace := range traces {
			if !bytes.Contains(given, trace) {
				continue
			}
			if !slices.Contains(f.places[station], where) {
				f.places[station] = append(f.places[station], where)
			}
			if station != "shown" && !strings.HasPrefix(where, forCollectors) {
				f.t.Errorf("%s tells the place of %s, %s: %.300q", where, station, what, given)
			}
			break
		}
	}
}

// at tells whether a station's place was found there.
func (f *found) at(station, where string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.places[station], where)
}

// forCollectors begins the names of what only collectors may read, and of what has the exact place for them.
const forCollectors = "for collectors: "

// plantedNetwork is a collector whose broker and API ask who somebody is, and what it is asked with.
type plantedNetwork struct {
	*network
	t                       *testing.T
	database                string
	admin, operator, viewer string // tokens
}

const plantedSecret = "planted-secret"

func newPlantedNetwork(t *testing.T) *plantedNetwork {
	t.Helper()
	n := &plantedNetwork{t: t, database: servers.Postgres(t), network: &network{
		t: t, broker: servers.MosquittoWith(t, servers.DynamicSecurity(t, "collector", plantedSecret)), objects: servers.MinIO(t),
	}}
	listen := servers.FreeAddress(t)
	n.api = "http://" + listen
	n.config = writeFile(t, "collector.yaml", fmt.Sprintf(`
id: e2e
data: %s
mqtt: {url: %q, username: collector, password: %s, accounts: dynsec, json_mirror: true}
store: {url: %q}
archive: {url: %q, access_key: %s, secret_key: %s}
http: {listen: %q, tokens: true}
`, t.TempDir(), n.broker.URL, plantedSecret, n.database, n.objects.URL, n.objects.AccessKey, n.objects.SecretKey, listen))
	n.collector = start(t, "heimdall-collector", "run", "--config", n.config)
	n.waitReady()
	token := func(role string) string {
		return strings.TrimSpace(mustRun(t, "heimdall-collector", "token", "add", "the-"+role, "--role", role, "--config", n.config))
	}
	n.admin, n.operator, n.viewer = token("admin"), token("operator"), token("viewer")
	return n
}

// command runs one of the collector's commands with a token.
func (n *plantedNetwork) command(token string, args ...string) string {
	n.t.Helper()
	cmd := command(n.t, "heimdall-collector", args...)
	cmd.Env = append(cmd.Env, "HEIMDALL_URL="+n.api, "HEIMDALL_TOKEN="+token)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("%s: %v: %s%s", strings.Join(args, " "), err, out, said.String())
	}
	return string(out)
}

// account makes one at the broker and gives its password.
func (n *plantedNetwork) account(kind, name string) string {
	n.t.Helper()
	var made protocol.NewAccount
	if out := n.command(n.admin, kind, "add", name, "--json"); json.Unmarshal([]byte(out), &made) != nil {
		n.t.Fatal(out)
	}
	return made.Secret
}

// ask reads an answer that a viewer gets; of a stream, what it says within a while.
func (n *plantedNetwork) ask(path, form string) (answer []byte, status int) {
	n.t.Helper()
	patience := 30 * time.Second
	if form == "text/event-stream" {
		patience = 3 * time.Second
		path += "?last_event_id=" + protocol.FormatTime(time.Now().Add(-time.Hour))
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.api+path, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+n.viewer)
		req.Header.Set("Accept", form)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			n.t.Fatalf("GET %s: %v", path, err)
		}
		answer, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil && form != "text/event-stream" {
			n.t.Fatalf("GET %s: %v", path, err)
		}
		if resp.StatusCode != http.StatusTooManyRequests {
			return answer, resp.StatusCode
		}
		time.Sleep(time.Second) // more of them than a token has at once
	}
}

// hear gives look all that comes to an account of the broker.
func (n *plantedNetwork) hear(username, password string, filters []string, look func(m mqtt.Message)) {
	n.t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + n.broker.Addr).SetClientID("ear-" + username + strconv.Itoa(len(filters))).
		SetUsername(username).SetPassword(password).SetAutoReconnect(false).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { look(m) }))
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		n.t.Fatalf("connect as %s: %v", username, token.Error())
	}
	n.t.Cleanup(func() { client.Disconnect(100) })
	for _, filter := range filters { // one that is refused is no error here: what comes counts
		if token := client.Subscribe(filter, 1, nil); !token.WaitTimeout(10 * time.Second) {
			n.t.Fatalf("no answer to the subscription of %s to %s", username, filter)
		}
	}
}

// topicOf names a topic for found.
func topicOf(m mqtt.Message) string {
	levels := strings.Split(m.Topic(), "/")
	if len(levels) > 3 && levels[0] == "heimdall" && (levels[3] == "site" || levels[3] == "batch") {
		return forCollectors + levels[3]
	}
	return m.Topic()
}

// station starts an agent at a place.
func (n *plantedNetwork) station(p planted, scene string) {
	n.t.Helper()
	config := writeFile(n.t, p.station+".yaml", fmt.Sprintf(`
station: {id: %s, position: {lat: %v, lon: %v, height_m: %v, uncertainty_m: %v, publish: %s}}
mqtt: {url: %q, username: %s, password: %q, homeassistant: {enabled: true}}
receivers: [{id: r0, source: %q, history: 16MiB}]
spool: {path: %q, limit: 64MiB}
metrics: {listen: ""}
control: {allow: [capture]}
`, p.station, p.lat, p.lon, p.height, p.uncertainty, p.publish, n.broker.URL, p.station, n.account("station", p.station), "sim:"+scene+"?station="+p.station, n.t.TempDir()))
	start(n.t, "heimdall-agent", "run", "--config", config)
}

// With the real programs: what a station's owner does not publish is in nothing that anybody but a collector gets. Of a station that
// publishes its place it is found, with the same search, wherever the place of a station is.
func TestPosition_IsWhereItsOwnerPublishesIt(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newPlantedNetwork(t)
	f := newFound(t)
	// The account of the collector may read all that there is.
	n.hear("collector", plantedSecret, []string{"#"}, func(m mqtt.Message) { f.look(topicOf(m), m.Payload()) })
	reader := n.account("subscriber", "reader")
	var mirrored sync.Map
	n.hear("sub-reader", reader, []string{
		"#", "heimdall/#", "heimdall/v1/+/site", "heimdall/v1/+/batch", "heimdall/v1/+/+", "$share/heimdall/heimdall/v1/+/site", "homeassistant/#",
		"heimdall/v1/+/status", "heimdall/v1/+/info", "heimdall/v1/+/state", "heimdall/v1/+/json/#",
	}, func(m mqtt.Message) {
		mirrored.Store(m.Topic(), true)
		f.look("subscriber: "+m.Topic(), m.Payload())
	})

	stations := ""
	for _, p := range plantedStations {
		stations += fmt.Sprintf("  %s: {position: [%v, %v, %v], clock: {sigma_s: 4e-8, quality: simulated}, gain_db: 0, rate: 48k, format: ci16_le}\n", p.station, p.lat, p.lon, p.height)
	}
	scene := writeFile(t, "scene.yaml", fmt.Sprintf(plantedScene, stations))
	for _, p := range plantedStations {
		n.station(p, scene)
	}
	eventually(t, time.Minute, "a viewer sees all stations online", func() error {
		answer, _ := n.ask("/api/v1/stations", "application/json")
		var list struct{ Items []protocol.Station }
		err := json.Unmarshal(answer, &list)
		online := 0
		for _, s := range list.Items {
			if s.Status == "online" && len(s.Receivers) > 0 && s.Receivers[0].SampleRateHz > 0 {
				online++
			}
		}
		if online < len(plantedStations) {
			return fmt.Errorf("%d are, %w", online, err)
		}
		for _, s := range list.Items {
			if s.ID == "unseen" && s.Position != nil || s.ID == "blurred" && (s.Position == nil || s.Position.Precision != "10km") {
				t.Errorf("%s publishes %+v", s.ID, s.Position)
			}
		}
		return nil
	})
	for _, p := range plantedStations {
		eventually(t, time.Minute, "the collector is told where "+p.station+" truly is", func() error {
			if mustSQL(t, n.database, "SELECT count(*) FROM site WHERE lat = "+strconv.FormatFloat(p.lat, 'f', -1, 64)+" AND station = '"+p.station+"'") == "0\n" {
				return os.ErrNotExist
			}
			return nil
		})
	}
	var a protocol.Acquisition
	if out := n.command(n.operator, "acquire", "145.5M", "1s", "--iq", "--wait", "--json"); json.Unmarshal([]byte(out), &a) != nil {
		t.Fatal(out)
	}
	recorded := map[string]string{} // by station
	for _, s := range a.Stations {
		if s.State != protocol.StationDone || s.Recording == "" {
			t.Fatalf("%+v", s)
		}
		recorded[s.Station] = s.Recording
	}
	eventually(t, time.Minute, "all recordings, measurements and detections are there, and mirrored", func() error {
		for _, p := range plantedStations {
			for _, path := range []string{"/api/v1/recordings/" + recorded[p.station] + ".sigmf-meta", "/api/v1/stations/" + p.station} {
				if answer, status := n.ask(path, "application/json"); status != http.StatusOK {
					return fmt.Errorf("%s: %s", path, answer)
				}
			}
			for _, kind := range []string{"measurement", "spectrum", "detection", "health"} {
				if _, ok := mirrored.Load("heimdall/v1/" + p.station + "/json/" + kind); !ok {
					return fmt.Errorf("no %s of %s was mirrored", kind, p.station)
				}
			}
		}
		return nil
	})

	n.hear("collector", plantedSecret, []string{"#", "heimdall/#"}, func(m mqtt.Message) {
		if m.Retained() {
			f.look("retained: "+topicOf(m), m.Payload())
		}
	})
	n.askEverything(f, a.ID, recorded)
	n.takeOut(f, a.ID)
	n.readViews(f)

	for _, p := range plantedStations {
		if !f.at(p.station, forCollectors+"site") && !f.at(p.station, forCollectors+"batch") {
			t.Errorf("the collector heard no place of %s that a search finds", p.station)
		}
	}
	for _, where := range []string{
		"heimdall/v1/shown/info", "retained: heimdall/v1/shown/info", "subscriber: heimdall/v1/shown/info",
		"/api/v1/stations as application/json", "/api/v1/stations as text/csv",
		"/api/v1/stations/shown as application/json", "/api/v1/events as text/event-stream", "/api/v1/acquisition/websdrs as application/json",
		"/api/v1/recordings/" + recorded["shown"] + ".sigmf-meta as application/json", "/api/v1/recordings/" + recorded["shown"] + ".sigmf as application/x-tar",
		"station list --json", "export recordings", "export recordings --output",
	} {
		if !f.at("shown", where) {
			t.Errorf("%s does not tell a place that is published", where)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, where := range []string{"heimdall/v1/unseen/info", "heimdall/v1/unseen/state", "heimdall/v1/unseen/status", "homeassistant/device/heimdall-unseen/config"} {
		if !f.looked[where] || !f.looked["retained: "+where] {
			t.Errorf("%s was not looked at", where)
		}
	}
	t.Logf("%d kinds of messages and answers were looked through; published: %q", len(f.looked), f.places["shown"])
}

// askEverything is a viewer who asks for every address that can be read, in every form.
func (n *plantedNetwork) askEverything(f *found, acquisition string, recorded map[string]string) {
	n.t.Helper()
	document, _ := n.ask("/api/v1/openapi.json", "application/json")
	var api struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]any }
		}
	}
	if err := json.Unmarshal(document, &api); err != nil {
		n.t.Fatal(err)
	}
	asked := 0
	for line := range strings.Lines(string(readFile(n.t, filepath.Join("..", "..", "collector", "api", "testdata", "roles.txt")))) {
		rule := strings.Fields(line)
		role, method, path := rule[0], rule[1], rule[2]
		if method != http.MethodGet {
			continue
		}
		ids := []string{""}
		switch {
		case !strings.Contains(path, "{id}"):
		case strings.Contains(path, "stations"), strings.Contains(path, "websdrs"):
			ids = nil
			for _, p := range plantedStations {
				ids = append(ids, p.station)
			}
		case strings.Contains(path, "recordings"):
			ids = nil
			for _, id := range recorded {
				ids = append(ids, id)
			}
		default:
			ids = []string{acquisition}
		}
		forms := api.Paths[path]["get"].Responses["200"].Content
		if len(forms) == 0 {
			n.t.Errorf("%s is in no form", path)
		}
		for form := range forms {
			for _, id := range ids {
				filled := strings.Replace(path, "{id}", id, 1)
				answer, status := n.ask(filled, form)
				if wants := role != "admin"; wants != (status == http.StatusOK) {
					n.t.Errorf("a viewer asks for %s as %s: status %d: %.300s", filled, form, status, answer)
				}
				f.look(filled+" as "+form, answer)
				asked++
			}
		}
	}
	if asked < 60 {
		n.t.Errorf("only %d answers", asked)
	}
}

// takeOut is a viewer with the program.
func (n *plantedNetwork) takeOut(f *found, acquisition string) {
	n.t.Helper()
	for _, args := range [][]string{
		{"station", "list"},
		{"station", "list", "--json"},
		{"export", "measurements", "--csv"},
		{"export", "spectra", "--json"},
		{"export", "detections", "--csv"},
		{"export", "health", "--json"},
		{"export", "gaps", "--csv"},
	} {
		f.look(strings.Join(args, " "), []byte(n.command(n.viewer, args...)))
	}
	dir := n.t.TempDir()
	n.command(n.viewer, "export", "recordings", "--acquisition", acquisition, "--out", dir)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 2*len(plantedStations) {
		n.t.Errorf("export leaves %q, %v", files, err)
	}
	for _, file := range files {
		f.look("export recordings", readFile(n.t, file))
	}
	archive := filepath.Join(n.t.TempDir(), "all.sigmf")
	n.command(n.viewer, "export", "recordings", "--acquisition", acquisition, "--output", archive)
	f.look("export recordings --output", readFile(n.t, archive))
}

// readViews reads all that the database gives to readers, such as Grafana's users.
func (n *plantedNetwork) readViews(f *found) {
	n.t.Helper()
	const as = "SET ROLE heimdall_read; "
	views := strings.Fields(mustSQL(n.t, n.database, as+"SELECT table_name FROM information_schema.role_table_grants WHERE grantee = 'heimdall_read' AND privilege_type = 'SELECT'"))
	if len(views) < 5 {
		n.t.Fatalf("readers of the database see %q", views)
	}
	for _, view := range views {
		f.look("view "+view, []byte(mustSQL(n.t, n.database, as+"SELECT v::text FROM "+view+" AS v LIMIT 20000")))
	}
	for _, table := range []string{"site", "rejected", "station"} {
		if may := mustSQL(n.t, n.database, "SELECT has_table_privilege('heimdall_read', '"+table+"', 'SELECT')"); may != "f\n" {
			n.t.Errorf("readers of the database may read %s: %s", table, may)
		}
	}
}
