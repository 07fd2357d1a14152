package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Check reports what the types cannot tell.
func (c *Config) Check(report func(field, message string)) {
	if err := protocol.ValidStation(c.Station.ID); err != nil {
		report("station.id", mendOf(err))
	}
	c.checkPosition(report)
	c.checkMQTT(report)
	if len(c.Receivers) == 0 {
		report("receivers", "list at least one, for instance {id: r0, source: file:g001_433.92M_250k.cu8} or {id: r0, source: \"sim:scene.yaml?station=torino\"}")
	}
	seen := map[string]bool{}
	for i := range c.Receivers {
		field := fmt.Sprintf("receivers[%d]", i)
		c.Receivers[i].check(field, report)
		if id := c.Receivers[i].ID; seen[id] {
			report(field+".id", "two receivers have this id; give each its own")
		}
		seen[c.Receivers[i].ID] = true
	}
	c.checkDelivery(report)
	c.checkControl(report)
	c.Metrics.check(report)
	oneOf(report, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf(report, "log.format", c.Log.Format, "text", "json")
}

// mendOf is what an error of the protocol says beside the field and its value, which the report names already.
func mendOf(err error) string {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

func oneOf(report func(field, message string), field, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		report(field, "want "+strings.Join(allowed[:len(allowed)-1], ", ")+" or "+allowed[len(allowed)-1])
	}
}

func (c *Config) checkPosition(report func(field, message string)) {
	p := c.Station.Position
	if p == nil {
		return
	}
	if p.Publish != "" {
		oneOf(report, "station.position.publish", p.Publish, "exact", "10km", "hidden")
	}
	if p.Lat < -90 || p.Lat > 90 {
		report("station.position.lat", "want degrees from -90 to 90")
	}
	if p.Lon < -180 || p.Lon > 180 {
		report("station.position.lon", "want degrees from -180 to 180")
	}
	if p.Lat == 0 && p.Lon == 0 {
		report("station.position", "0, 0 lies in the Gulf of Guinea; give the antenna's place or leave position out")
	}
	if p.UncertaintyM != nil && *p.UncertaintyM <= 0 {
		report("station.position.uncertainty_m", "want metres above 0, or leave it out")
	}
}

func (c *Config) checkMQTT(report func(field, message string)) {
	oneOf(report, "mqtt.format", c.MQTT.Format, "protobuf", "json")
	if c.MQTT.Prefix == "" || strings.ContainsAny(c.MQTT.Prefix, "+#") || strings.HasPrefix(c.MQTT.Prefix, "/") || strings.HasSuffix(c.MQTT.Prefix, "/") {
		report("mqtt.prefix", "want a topic without wildcards and without a slash at its ends, for instance heimdall")
	}
	if protocol.ValidPrefix(c.MQTT.HomeAssistant.Prefix) != nil {
		report("mqtt.homeassistant.prefix", "want a topic without wildcards and without a slash at its ends, for instance homeassistant")
	}
	if c.MQTT.Password != "" && c.MQTT.Username == "" && os.Getenv(envUsername) == "" {
		report("mqtt.username", "missing: mqtt.password needs the account that it belongs to")
	}
	if c.MQTT.URL == "" {
		return
	}
	u, err := url.Parse(c.MQTT.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "mqtt" && u.Scheme != "mqtts") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		report("mqtt.url", "want mqtt://host:1883 or mqtts://host:8883")
	case u.User != nil:
		report("mqtt.url", "leave user and password out of the URL; use mqtt.username and mqtt.password")
	}
	if err == nil && u.Port() != "" {
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			report("mqtt.url", "want a port from 1 to 65535")
		}
	}
	if err == nil && u.Scheme == "mqtt" {
		for key, file := range map[string]string{"mqtt.ca": c.MQTT.CA, "mqtt.cert": c.MQTT.Cert, "mqtt.key": c.MQTT.Key} {
			if file != "" {
				report(key, "is only used with TLS: write mqtts:// in mqtt.url, or leave it out")
			}
		}
	}
	if (c.MQTT.Cert == "") != (c.MQTT.Key == "") {
		report("mqtt.cert", "a client certificate needs both mqtt.cert and mqtt.key")
	}
}

func (r *ReceiverConfig) check(field string, report func(field, message string)) {
	if !idPattern.MatchString(r.ID) {
		report(field+".id", "want 1 to 32 of a-z, 0-9 and -, for instance r0")
	}
	r.checkSource(field+".source", report)
	powerOfTwo := func(key string, v, low, high int) {
		if v != 0 && (v < low || v > high || v&(v-1) != 0) {
			report(field+"."+key, fmt.Sprintf("want a power of two from %d to %d", low, high))
		}
	}
	powerOfTwo("fft", r.FFT, 64, 65536)
	powerOfTwo("spectrum.bins", r.Spectrum.Bins, 16, 4096)
	if r.History != nil && (*r.History < 1<<20 || *r.History > 64<<30) {
		report(field+".history", "want 1MiB to 64GiB")
	}
	if r.Detect.Threshold < 0 || r.Detect.Threshold > 60 {
		report(field+".detect.threshold", "want dB over the noise floor, 1 to 60; 8 is the default")
	}
	between(report, field+".detect.min_duration", r.Detect.MinDuration, mostPause)
	if r.Detect.MergeGap != nil {
		between(report, field+".detect.merge_gap", *r.Detect.MergeGap, mostPause)
	}
	if r.Detect.Hold != nil {
		between(report, field+".detect.hold", *r.Detect.Hold, mostHold)
	}
	if every := time.Duration(r.Measurement.Every); every != 0 && (every < 10*time.Millisecond || every > mostMeasurement) {
		report(field+".measurement.every", "want at least 10ms and at most 1h")
	}
	if r.Spectrum.Every != nil && (*r.Spectrum.Every < 0 || time.Duration(*r.Spectrum.Every) > mostSpectrum) {
		report(field+".spectrum.every", "want 0s, which stores none, to 1d")
	}
	r.Calibration.check(field+".calibration", report)
	if r.Gain != "" && r.Gain != "auto" {
		if _, err := parseGain(r.Gain); err != nil {
			report(field+".gain", "want dB, for instance 28.0, or auto")
		}
	}
	for i, s := range r.Plan {
		r.checkStep(fmt.Sprintf("%s.plan[%d]", field, i), s, report)
	}
}

func (c *CalibrationConfig) check(field string, report func(field, message string)) {
	if c == nil {
		return
	}
	if c.OffsetDB != nil && len(c.Table) > 0 {
		report(field+".offset_db", "give offset_db or table, not both")
	}
	for i, point := range c.Table {
		if point.OffsetDB == nil {
			report(fmt.Sprintf("%s.table[%d].offset_db", field, i), "missing: give the offset at this frequency in dB")
		}
	}
}

// mostPause bounds the durations of a detection's rules: what they hold back is kept in memory that long.
const mostPause = configs.Duration(time.Minute)

// mostHold bounds how long the IQ around a detection stays in memory.
const mostHold = configs.Duration(day)

func between(report func(field, message string), field string, v, most configs.Duration) {
	if v < 0 || v > most {
		report(field, fmt.Sprintf("want 0s to %s", most))
	}
}

// checkSource reports each fault of the source's URL under the name of the parameter.
func (r *ReceiverConfig) checkSource(field string, report func(field, message string)) {
	_, err := radio.Open(r.source(), radio.Options{})
	for _, f := range radio.Faults(err) {
		switch {
		case f.Field == "ppm" && r.PPM != 0:
			mend := f.Mend
			if strings.HasPrefix(mend, "unknown") {
				mend = "a source of this kind cannot correct it: leave it out"
			}
			report(strings.TrimSuffix(field, "source")+"ppm", mend)
		case f.Value == "":
			report(field, f.Field+": "+f.Mend)
		case f.Field == "scheme": // no part of the URL has that name
			report(field, f.Mend)
		default:
			report(field+"."+f.Field, fmt.Sprintf("%q: %s", f.Value, f.Mend))
		}
	}
}

func (r *ReceiverConfig) checkStep(field string, s StepConfig, report func(field, message string)) {
	if s.Name != "" && !idPattern.MatchString(s.Name) {
		report(field+".name", "want 1 to 32 of a-z, 0-9 and -, for instance 2m")
	}
	if s.Center < 0 || s.Center > 300e9 {
		report(field+".center", "want a frequency from 0 to 300G")
	}
	if s.Rate < 0 || s.Rate > 1e9 {
		report(field+".rate", "want samples per second from 1 to 1G")
	}
	if s.Rate != 0 && s.Bandwidth != 0 {
		report(field+".bandwidth", "give rate or bandwidth, not both")
	}
	if len(r.Plan) > 1 && s.Name == "" {
		report(field+".name", "a plan of several steps needs a name for each")
	}
	if s.Dwell < 0 {
		report(field+".dwell", "want a duration above 0")
	}
}

func (c *Config) checkDelivery(report func(field, message string)) {
	oneOf(report, "delivery.ack", c.Delivery.Ack, "collector", "broker")
	if c.Delivery.Window < 1 || c.Delivery.Window > 10000 {
		report("delivery.window", "want 1 to 10000 messages")
	}
	c.Delivery.checkDaily(report)
	if t := time.Duration(c.Delivery.Timeout); t < time.Second || t > mostTimeout {
		report("delivery.timeout", "want at least 1s and at most 1h")
	}
	if c.Spool.Limit != 0 && c.Spool.Limit < leastLimit {
		report("spool.limit", "want at least 1MiB; where the disk under spool.path has less, name another one there")
	}
	if c.Spool.Path == "" {
		report("spool.path", "name a directory that outlives a restart")
	}
	if u := time.Duration(c.Clock.Uncertainty); u <= 0 || u > day {
		report("clock.uncertainty", "want a duration above 0, for instance 1s")
	}
}

func (c MetricsConfig) check(report func(field, message string)) {
	if c.Listen == nil || *c.Listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(*c.Listen)
	if ip := net.ParseIP(host); err != nil || port == "" || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		report("metrics.listen", "want a loopback address and a port, for instance "+defaultMetrics+" (it has no accounts); port 0 takes any free one, and \"\" none")
	}
}

func (c *Config) checkControl(report func(field, message string)) {
	for i, a := range c.Control.Allow {
		if a != "capture" && a != "tune" {
			report(fmt.Sprintf("control.allow[%d]", i), "want capture or tune")
		}
	}
	if c.Control.Hours != "" {
		if _, err := parseHours(c.Control.Hours); err != nil {
			report("control.hours", err.Error())
		}
	}
}
