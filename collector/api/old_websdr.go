package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/protocol"
)

// OldWebSDR is a station as GET /api/v1/acquisition/websdrs lists it.
type OldWebSDR struct {
	ID             int      `json:"id"` // the station's number
	UUID           string   `json:"uuid"`
	Station        string   `json:"station"`
	Name           string   `json:"name"`
	URL            string   `json:"url"`
	LocationName   string   `json:"location_name"`
	Latitude       *float64 `json:"latitude"`
	Longitude      *float64 `json:"longitude"`
	IsActive       bool     `json:"is_active"`
	TimeoutSeconds int      `json:"timeout_seconds"`
	RetryCount     int      `json:"retry_count"`
	Status         string   `json:"status"`
}

// OldWebSDRDetail is a station as all other addresses of websdrs give it.
type OldWebSDRDetail struct {
	ID                  string   `json:"id"` // a UUID made from the station's id
	Number              int      `json:"number"`
	Station             string   `json:"station"`
	Name                string   `json:"name"`
	URL                 string   `json:"url"`
	Latitude            *float64 `json:"latitude"`
	Longitude           *float64 `json:"longitude"`
	LocationDescription *string  `json:"location_description,omitempty"`
	Country             *string  `json:"country,omitempty"`
	AdminEmail          *string  `json:"admin_email,omitempty"`
	AltitudeASL         *int     `json:"altitude_asl,omitempty"`
	TimeoutSeconds      int      `json:"timeout_seconds"`
	RetryCount          int      `json:"retry_count"`
	IsActive            bool     `json:"is_active"`
	CreatedAt           string   `json:"created_at,omitempty"`
	UpdatedAt           string   `json:"updated_at,omitempty"`
	Status              string   `json:"status"`
}

// OldWebSDRHealth is a station as GET /api/v1/acquisition/websdrs/health shows it.
type OldWebSDRHealth struct {
	WebSDRID     string   `json:"websdr_id"` // its UUID
	Name         string   `json:"name"`
	Status       string   `json:"status"` // online, offline
	LastCheck    string   `json:"last_check"`
	AvgSNR       *float64 `json:"avg_snr"` // of what its receivers hear now
	ErrorMessage string   `json:"error_message,omitempty"`
}

func oldWebSDRRoutes() []route {
	const one = oldPath + "websdrs/{id}"
	detail := content{types: []string{jsonType}, schema: "OldWebSDRDetail", example: exampleOldDetail()}
	said := &content{types: []string{jsonType}, schema: "WebSDRFields", example: exampleOldFields()}
	changes := []problemKind{badField, nameTaken, tooLarge, wrongType, crossOrigin}
	return []route{
		{
			method: "GET", path: oldPath + "websdrs", id: "oldListWebSDRs", summary: "Stations in use, by number", detail: "Use /api/v1/stations.", role: protocol.RoleViewer,
			answer: content{types: []string{jsonType}, schema: "OldWebSDRList", example: []OldWebSDR{exampleOldWebSDR()}}, serve: (*server).listWebSDRs,
		},
		{
			method: "GET", path: oldPath + "websdrs-all", id: "oldListAllWebSDRs", summary: "Stations with all that is known of them", detail: "Use /api/v1/stations.", role: protocol.RoleViewer,
			query: []parameter{{
				name: "include_inactive", text: "Also those out of use.", example: "true", schema: map[string]any{"type": "string", "enum": []string{"true", "false"}},
			}},
			answer:   content{types: []string{jsonType}, schema: "OldWebSDRDetailList", example: []OldWebSDRDetail{exampleOldDetail()}},
			problems: []problemKind{badField}, serve: (*server).listAllWebSDRs,
		},
		{
			method: "GET", path: oldPath + "websdrs/health", id: "oldWebSDRHealth", summary: "Which stations are online, by UUID", detail: "Use /api/v1/stations.", role: protocol.RoleViewer,
			answer: content{types: []string{jsonType}, schema: "OldWebSDRHealthMap", example: exampleOldWebSDRHealth()}, serve: (*server).webSDRHealth,
		},
		{
			method: "GET", path: one, id: "oldGetWebSDR", summary: "One station, by number, UUID or id", detail: "Use /api/v1/stations/{id}.", role: protocol.RoleViewer,
			answer: detail, problems: []problemKind{notFound}, serve: (*server).webSDR,
		},
		{
			method: "POST", path: oldPath + "websdrs", id: "oldCreateWebSDR", summary: "Writes down a station that has no agent yet", role: protocol.RoleAdmin,
			detail: "It gets a number and an id made from its name; an agent that comes under that id takes it over. Until then it is offline.",
			body:   said, answer: detail, status: http.StatusCreated, problems: changes, serve: (*server).createWebSDR,
		},
		{
			method: "PUT", path: one, id: "oldUpdateWebSDR", summary: "Changes what is said of a station", role: protocol.RoleAdmin,
			detail: "Members that are left out stay. What an agent says of itself stays beside it.",
			body:   said, answer: detail, problems: append([]problemKind{badBody, notFound}, changes...), serve: (*server).updateWebSDR,
		},
		{
			method: "DELETE", path: one, id: "oldDeleteWebSDR", summary: "Takes a station out of use", role: protocol.RoleAdmin,
			detail: "It stays, with is_active false. With hard_delete=true a station that never had an agent is removed; the data of others stays.",
			query: []parameter{{
				name: "hard_delete", text: "Remove it.", example: "false", schema: map[string]any{"type": "string", "enum": []string{"true", "false"}},
			}},
			answer: content{text: "Nothing"}, status: http.StatusNoContent, problems: []problemKind{badField, notFound, crossOrigin}, serve: (*server).deleteWebSDR,
		},
	}
}

// webSDR is a station with what clients of the former service said of it.
type webSDR struct {
	station protocol.Station
	said    protocol.WebSDR
}

// websdrs are all stations that the caller sees, by number.
func (s *server) websdrs(ctx context.Context) ([]webSDR, error) {
	stations, err := s.stations(ctx)
	if err != nil {
		return nil, err
	}
	said, err := s.WebSDRs.WebSDRs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list what is said of stations: %w", err)
	}
	byStation := make(map[string]protocol.WebSDR, len(said))
	for _, w := range said {
		byStation[w.Station] = w
	}
	all := make([]webSDR, len(stations))
	for i := range stations {
		all[i] = webSDR{stations[i], byStation[stations[i].ID]}
		if stations[i].LastSeen != "" && !callerOf(ctx).role.May(protocol.RoleOperator) {
			all[i].said.LatitudeDeg, all[i].said.LongitudeDeg, all[i].said.AltitudeM = nil, nil, nil // where it is, its agent says as exactly as its owner wants
		}
	}
	return all, nil
}

// active are those in use.
func active(all []webSDR) []webSDR {
	used := make([]webSDR, 0, len(all))
	for _, w := range all {
		if w.active() {
			used = append(used, w)
		}
	}
	return used
}

// find is the station of a number, UUID or id.
func find(all []webSDR, id string) (webSDR, bool) {
	number, err := strconv.Atoi(id)
	isNumber := err == nil
	for _, w := range all {
		if isNumber && w.station.Number == number {
			return w, true
		}
	}
	parsed, err := uuid.Parse(id)
	isUUID := err == nil
	for _, w := range all {
		if w.station.ID == id || isUUID && stationUUID(w.station.ID) == parsed {
			return w, true
		}
	}
	return webSDR{}, false
}

// stationSpace is what the UUIDs of stations are made in.
var stationSpace = uuid.MustParse("6f1c1f0e-8f5a-4d0e-9a55-2b8c5d7e4a31")

// stationUUID is a station's name where clients want a UUID. It follows from the id, so it is always the same.
func stationUUID(station string) uuid.UUID { return uuid.NewSHA1(stationSpace, []byte(station)) }

func (w webSDR) active() bool { return valueOr(w.said.Active, true) }

func (w webSDR) name() string {
	if w.station.Name != "" {
		return valueOr(w.said.Name, w.station.Name)
	}
	return valueOr(w.said.Name, w.station.ID)
}

// position is where it is said to be, and else what the station publishes.
func (w webSDR) position() (latitude, longitude *float64) {
	latitude, longitude = w.said.LatitudeDeg, w.said.LongitudeDeg
	if (latitude == nil || longitude == nil) && w.station.Position != nil {
		return &w.station.Position.LatitudeDeg, &w.station.Position.LongitudeDeg
	}
	return latitude, longitude
}

// url is where its receiver is said to be. An agent has no address of its own; then it is where the collector tells of it.
func (w webSDR) url(r *http.Request) string {
	return valueOr(w.said.URL, addressOf(r)+"/api/v1/stations/"+w.station.ID)
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func (w webSDR) listed(r *http.Request) OldWebSDR {
	latitude, longitude := w.position()
	return OldWebSDR{
		ID: w.station.Number, UUID: stationUUID(w.station.ID).String(), Station: w.station.ID, Name: w.name(), URL: w.url(r),
		LocationName: valueOr(w.said.LocationDescription, w.name()), Latitude: latitude, Longitude: longitude, IsActive: w.active(),
		TimeoutSeconds: valueOr(w.said.TimeoutS, oldTimeoutS), RetryCount: valueOr(w.said.RetryCount, oldRetryCount), Status: w.station.Status,
	}
}

func (w webSDR) detail(r *http.Request) OldWebSDRDetail {
	latitude, longitude := w.position()
	d := OldWebSDRDetail{
		ID: stationUUID(w.station.ID).String(), Number: w.station.Number, Station: w.station.ID, Name: w.name(), URL: w.url(r),
		Latitude: latitude, Longitude: longitude, LocationDescription: w.said.LocationDescription, Country: w.said.Country,
		AdminEmail: w.said.AdminEmail, AltitudeASL: w.said.AltitudeM, TimeoutSeconds: valueOr(w.said.TimeoutS, oldTimeoutS),
		RetryCount: valueOr(w.said.RetryCount, oldRetryCount), IsActive: w.active(), Status: w.station.Status,
	}
	if !w.said.Created.IsZero() {
		d.CreatedAt, d.UpdatedAt = protocol.FormatTime(w.said.Created), protocol.FormatTime(w.said.Updated)
	}
	return d
}

func (w webSDR) health(now string) OldWebSDRHealth {
	h := OldWebSDRHealth{WebSDRID: stationUUID(w.station.ID).String(), Name: w.name(), Status: w.station.Status, LastCheck: now}
	switch {
	case w.station.LastSeen == "":
		h.ErrorMessage = "no agent of this station has ever connected"
	case w.station.Status != protocol.Online:
		h.ErrorMessage = "last heard of at " + w.station.LastSeen
	default:
		h.AvgSNR = meanSNR(w.station.Steps)
	}
	return h
}

// meanSNR is the mean in dB of what the receivers' steps last heard; nil when none says.
func meanSNR(steps json.RawMessage) *float64 {
	var receivers map[string]struct {
		Steps map[string]struct {
			SNRDB *float64 `json:"snr_db"`
		} `json:"steps"`
	}
	if json.Unmarshal(steps, &receivers) != nil {
		return nil
	}
	sum, n := 0.0, 0
	for _, receiver := range receivers {
		for _, step := range receiver.Steps {
			if step.SNRDB != nil {
				sum, n = sum+*step.SNRDB, n+1
			}
		}
	}
	if n == 0 {
		return nil
	}
	mean := sum / float64(n)
	return &mean
}

func (s *server) listWebSDRs(w http.ResponseWriter, r *http.Request) error {
	all, err := s.websdrs(r.Context())
	if err != nil {
		return err
	}
	list := []OldWebSDR{}
	for _, one := range active(all) {
		list = append(list, one.listed(r))
	}
	return send(w, r, http.StatusOK, list)
}

func (s *server) listAllWebSDRs(w http.ResponseWriter, r *http.Request) error {
	all, err := s.websdrs(r.Context())
	if err != nil {
		return err
	}
	if !oldFlag(r, "include_inactive") {
		all = active(all)
	}
	list := []OldWebSDRDetail{}
	for _, one := range all {
		list = append(list, one.detail(r))
	}
	return send(w, r, http.StatusOK, list)
}

func (s *server) webSDRHealth(w http.ResponseWriter, r *http.Request) error {
	all, err := s.websdrs(r.Context())
	if err != nil {
		return err
	}
	now := protocol.FormatTime(s.Now())
	health := map[string]OldWebSDRHealth{}
	for _, one := range active(all) {
		health[stationUUID(one.station.ID).String()] = one.health(now)
	}
	return send(w, r, http.StatusOK, health)
}

// findWebSDR is the station that the address names.
func (s *server) findWebSDR(r *http.Request) (webSDR, error) {
	id := r.PathValue("id")
	all, err := s.websdrs(r.Context())
	if err != nil {
		return webSDR{}, err
	}
	found, ok := find(all, id)
	if !ok {
		return webSDR{}, absent(fs.ErrNotExist, "station", id)
	}
	return found, nil
}

// answerWebSDR answers with a station as it is now.
func (s *server) answerWebSDR(w http.ResponseWriter, r *http.Request, status int) error {
	found, err := s.findWebSDR(r)
	if err != nil {
		return err
	}
	return send(w, r, status, found.detail(r))
}

func (s *server) webSDR(w http.ResponseWriter, r *http.Request) error {
	return s.answerWebSDR(w, r, http.StatusOK)
}

func (s *server) createWebSDR(w http.ResponseWriter, r *http.Request) error {
	o, err := readOld(w, r, `{"name": "IW2MXM Milano", "url": "http://websdr.iw2mxm.it:8073", "latitude": 45.464, "longitude": 9.188}`)
	if err != nil {
		return err
	}
	for _, member := range oldRequired() {
		o.required(member.name, member.advice)
	}
	fields := o.webSDR()
	if len(o.faults) > 0 {
		return badField.faulty(o.faults)
	}
	station, err := s.WebSDRs.CreateWebSDR(r.Context(), fields, s.Now())
	if err != nil {
		return webSDRProblem(fmt.Errorf("create station: %w", err), nameTaken)
	}
	s.noteDone(r, actAddWebSDR, station, nil)
	id := stationUUID(station).String() // not the station's id, which may be the number of another
	w.Header().Set("Location", oldPath+"websdrs/"+id)
	r.SetPathValue("id", id)
	return s.answerWebSDR(w, r, http.StatusCreated)
}

func (s *server) updateWebSDR(w http.ResponseWriter, r *http.Request) error {
	found, err := s.findWebSDR(r)
	if err != nil {
		return err
	}
	o, err := readOld(w, r, `{"is_active": true, "timeout_seconds": 45}`)
	if err != nil {
		return err
	}
	for _, member := range oldRequired() {
		if _, given := o.members[member.name]; given {
			o.required(member.name, member.advice)
		}
	}
	fields := o.webSDR()
	if len(o.faults) > 0 {
		return badField.faulty(o.faults)
	}
	if !o.anyTaken() {
		return badBody.with("there is nothing to change in it", fieldError("body", "{}", "give at least one member, such as {\"is_active\": true}"))
	}
	err = s.WebSDRs.UpdateWebSDR(r.Context(), found.station.ID, s.Now(), func(w *protocol.WebSDRFields) { o.change(w, fields) })
	if err != nil {
		return webSDRProblem(fmt.Errorf("change station: %w", err), nameTaken)
	}
	s.noteDone(r, actChangeWebSDR, found.station.ID, nil)
	r.SetPathValue("id", stationUUID(found.station.ID).String())
	return s.answerWebSDR(w, r, http.StatusOK)
}

// deleteWebSDR hides a station; only what nothing was ever heard of is removed.
func (s *server) deleteWebSDR(w http.ResponseWriter, r *http.Request) error {
	found, err := s.findWebSDR(r)
	if err != nil {
		return err
	}
	hard := oldFlag(r, "hard_delete")
	if hard {
		err = s.WebSDRs.RemoveWebSDR(r.Context(), found.station.ID)
	} else {
		err = s.WebSDRs.UpdateWebSDR(r.Context(), found.station.ID, s.Now(), func(w *protocol.WebSDRFields) { w.Active = new(bool) })
	}
	if err != nil {
		return webSDRProblem(fmt.Errorf("delete station: %w", err), badField)
	}
	s.noteDone(r, actRemoveWebSDR, found.station.ID, map[string]any{"hard": hard})
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// webSDRProblem gives faults that the database found the kind of problem that they are.
func webSDRProblem(err error, kind problemKind) error {
	if problem, own := problemOf(err, kind); !own {
		return problem
	}
	return err
}

// oldRequired are the members that no station is without, and what to write.
func oldRequired() []struct{ name, advice string } {
	return []struct{ name, advice string }{
		{"name", "write a text of 1 to 100 letters"},
		{"url", "write an address such as http://websdr.example.com:8073"},
		{"latitude", "write degrees from -90 to 90"},
		{"longitude", "write degrees from -180 to 180"},
	}
}

// webSDR reads what is said of a station. Members that are not known are not looked at: clients send back what they got.
func (o *object) webSDR() protocol.WebSDRFields {
	const farM = 100_000 // of any altitude
	return protocol.WebSDRFields{
		Name:                o.text("name", 1, 100),
		URL:                 o.url("url"),
		LatitudeDeg:         o.number("latitude", "write degrees from -90 to 90", func(v float64) bool { return v >= -90 && v <= 90 }),
		LongitudeDeg:        o.number("longitude", "write degrees from -180 to 180", func(v float64) bool { return v >= -180 && v <= 180 }),
		LocationDescription: o.text("location_description", 0, 255),
		Country:             o.text("country", 0, 100),
		AdminEmail:          o.text("admin_email", 0, 255),
		AltitudeM:           o.whole("altitude_asl", -farM, farM),
		TimeoutS:            o.whole("timeout_seconds", 1, 300),
		RetryCount:          o.whole("retry_count", 0, 10),
		Active:              o.flag("is_active"),
	}
}

// change takes over the members that the body has; null unsays one.
func (o *object) change(w *protocol.WebSDRFields, fields protocol.WebSDRFields) {
	set(o, "name", &w.Name, fields.Name)
	set(o, "url", &w.URL, fields.URL)
	set(o, "latitude", &w.LatitudeDeg, fields.LatitudeDeg)
	set(o, "longitude", &w.LongitudeDeg, fields.LongitudeDeg)
	set(o, "location_description", &w.LocationDescription, fields.LocationDescription)
	set(o, "country", &w.Country, fields.Country)
	set(o, "admin_email", &w.AdminEmail, fields.AdminEmail)
	set(o, "altitude_asl", &w.AltitudeM, fields.AltitudeM)
	set(o, "timeout_seconds", &w.TimeoutS, fields.TimeoutS)
	set(o, "retry_count", &w.RetryCount, fields.RetryCount)
	set(o, "is_active", &w.Active, fields.Active)
}

func set[T any](o *object, name string, to **T, value *T) {
	if _, given := o.members[name]; given {
		*to = value
	}
}

// anyTaken tells whether the body has a member that is known.
func (o *object) anyTaken() bool {
	for _, name := range o.names {
		if o.used[name] {
			return true
		}
	}
	return false
}

// url reads an address of a receiver; nil when absent or wrong.
func (o *object) url(name string) *string {
	text := o.text(name, 1, 500)
	if text == nil {
		return nil
	}
	u, err := url.Parse(*text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		o.fault(name, *text, "write an address such as http://websdr.example.com:8073")
		return nil
	}
	return text
}
