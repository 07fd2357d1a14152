package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/discover"
	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/packaging/answers"
	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/protocol"
)

// SetupCmd asks what a station needs to know, and writes its configuration.
type SetupCmd struct {
	Source string `help:"The receiver, as in receivers[].source; otherwise one is looked for." placeholder:"URL"`
	Join   string `help:"Where the network's code is: a file, or - for standard input. With it, setup asks neither for the name nor where to send." placeholder:"-|FILE"`
	Config string `help:"Where to write the configuration; the system's own place otherwise." placeholder:"F"`
	Yes    bool   `help:"Ask nothing: take what is found, and for the rest what is proposed."`
}

// Help begins with the example.
func (SetupCmd) Help() string {
	return "Example:  heimdall-agent setup --source kiwi://kiwi.local\n\n" +
		"Five questions: receiver, place, name, where to send, and whether the network may order recordings. As root it offers to start\n" +
		"the service. What is there already is not written over."
}

// Run is called by the command line.
func (c SetupCmd) Run(ctx context.Context, s streams) error {
	path := c.Config
	if path == "" {
		path = systemConfig()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return usageError{err}
	}
	i := &interview{
		in: answers.New(os.Stdin), out: s.out, yes: c.Yes, state: DefaultConfig().Spool.Path,
		scan: func() []discover.Found { return discover.Scan(ctx, discover.System{}) },
	}
	if c.Join != "" {
		if err := i.takeCode(ctx, c.Join); err != nil {
			return i.unfinished(usageError{err})
		}
	}
	if err := i.station(ctx, c.Source, path); err != nil {
		return i.unfinished(err)
	}
	return i.start(ctx, service.Manager{Program: programName, Description: serviceDescription, Config: path, DropIns: dropIns([]ReceiverConfig{{Source: i.source}}), Out: s.out})
}

// interview is the conversation of setup.
type interview struct {
	in    *answers.Reader
	out   io.Writer
	yes   bool
	scan  func() []discover.Found
	state string // the state directory, where an identity is kept

	code   *protocol.EnrolmentCode // of --join
	source string                  // of the receiver, once it is known
	trial  *trial                  // of the receiver
	joined string                  // the station whose code was used; empty: none was
	config Config                  // as it was written
}

// unfinished says what became of what was answered, where no configuration did.
func (i *interview) unfinished(err error) error {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(i.out)
		err = errNothingWritten
	}
	if i.joined != "" {
		err = fmt.Errorf("%w; the code is used up: `heimdall-collector station rotate %s` makes another one", err, i.joined)
	}
	return err
}

var errNothingWritten = errors.New("stopped: no configuration was written")

// ask asks a question; an empty answer is what is proposed.
func (i *interview) ask(ctx context.Context, question, proposed string) (string, error) {
	fmt.Fprint(i.out, question)
	if proposed != "" {
		fmt.Fprintf(i.out, " [%s]", proposed)
	}
	fmt.Fprint(i.out, " ")
	if i.yes {
		fmt.Fprintln(i.out, proposed)
		return proposed, nil
	}
	answer, err := i.in.Line(ctx)
	if err != nil {
		return "", err
	}
	if answer = strings.TrimSpace(answer); answer == "" {
		answer = proposed
	}
	return answer, nil
}

// agree asks a question of yes or no.
func (i *interview) agree(ctx context.Context, question string, proposed bool) (bool, error) {
	choices := map[bool]string{true: "Y/n", false: "y/N"}[proposed]
	if i.yes {
		_, err := fmt.Fprintf(i.out, "%s [%s] %s\n", question, choices, map[bool]string{true: "y", false: "n"}[proposed])
		return proposed, err
	}
	for {
		answer, err := i.ask(ctx, question, choices)
		switch strings.ToLower(answer) {
		case strings.ToLower(choices):
			return proposed, err
		case "y", "yes":
			return true, err
		case "n", "no":
			return false, err
		}
		if err != nil {
			return false, err
		}
	}
}

// errBack takes a choice back.
var errBack = errors.New("back to the choice")

// until asks again as long as the answer is not taken. Without somebody who answers, the first refusal ends it.
func (i *interview) until(ctx context.Context, question, proposed string, take func(answer string) error) error {
	for {
		answer, err := i.ask(ctx, question, proposed)
		if err != nil {
			return err
		}
		err = take(answer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || i.yes || answers.Ended(err):
			return err
		}
		fmt.Fprintf(i.out, "               %v\n", err)
	}
}

// station asks the five questions and writes the configuration.
func (i *interview) station(ctx context.Context, source, path string) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s is there already: change it with an editor, or name another place with --config", path)
	}
	if err := writable(path); err != nil {
		return err
	}
	found, err := i.receiver(ctx, source)
	if err != nil {
		return err
	}
	place, err := i.place(ctx, placeOf(found))
	if err != nil {
		return err
	}
	id, broker, err := i.network(ctx)
	if err != nil {
		return err
	}
	recordings, err := i.agree(ctx, "5/5 May the network order recordings of IQ here?", false)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# Written by heimdall-agent setup. configs/agent.yaml of the source, or the package's example, has every key.\nstation:\n  id: %s\n%s%s", id, place, broker)
	fmt.Fprintf(&text, "receivers:\n  - id: r0\n    source: %q\n", i.source)
	if recordings {
		text.WriteString("control:\n  allow: [capture]\n")
	}
	if i.config, err = writeConfig(path, text.String()); err != nil {
		return err
	}
	expected, err := i.trial.estimate(i.config)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(i.out, "Wrote %s. It listens to %s around %s; change receivers[].plan.\n%s",
		path, samplesPerSecond(found.RateHz), configs.Hertz(found.Info.Tuning.CenterHz), expected.text(i.config))
	return err
}

// writeConfig writes a configuration that can be used, for root and the service only: it may hold a password.
func writeConfig(path, text string) (Config, error) {
	cfg := DefaultConfig()
	if err := configs.Decode(path, []byte(text), &cfg); err != nil {
		return cfg, err
	}
	for k := range cfg.Receivers {
		cfg.Receivers[k].setDefaults()
	}
	return cfg, writeText(path, text)
}

// writeText writes a configuration that was not there.
func writeText(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		return fmt.Errorf("write the configuration: %w; run it with sudo, or name another place with --config", err)
	}
	return nil
}

// receiver finds the receiver and listens to it.
func (i *interview) receiver(ctx context.Context, source string) (radio.Report, error) {
	var report radio.Report
	listen := func(source string) error {
		var err error
		if i.source = source; source == "" {
			return errors.New("name a source, such as rtlsdr://0, rtltcp://127.0.0.1:1234 or kiwi://kiwi.local")
		}
		if i.trial, err = newTrial(); err != nil {
			return err
		}
		wall := wallOf(newClock(DefaultConfig(), slog.New(slog.DiscardHandler)))
		report, err = radio.Probe(ctx, source, radio.Options{Wall: wall}, listenFor, i.trial.hear)
		if err == nil {
			fmt.Fprintf(i.out, "               %s: %s for %s, %d samples lost%s\n", oneLine(report.Info.Hardware), samplesPerSecond(report.RateHz), listenFor, report.Lost, newProbeReport(report).clock())
		}
		return err
	}
	const question = "1/5 Receiver  "
	if source != "" {
		fmt.Fprintln(i.out, question, source)
		return report, listen(source)
	}
	fmt.Fprintln(i.out, "Looking for receivers …")
	proposed := ""
	for _, f := range i.scan() {
		fmt.Fprintf(i.out, "               %s (%s)\n", f.Source, oneLine(f.What))
		if f.Mend != "" {
			fmt.Fprintf(i.out, "               %s\n", oneLine(f.Mend))
		}
		if proposed == "" {
			proposed = f.Source
		}
	}
	return report, i.until(ctx, question, proposed, listen)
}

// placeOf is what the receiver says of its own place, if one can be read there.
func placeOf(found radio.Report) string {
	for _, f := range found.Facts {
		text := strings.Trim(f.Text, "()")
		if p, err := parsePlace(text); f.Name == "place" && err == nil && p != nil {
			return text
		}
	}
	return ""
}

// place asks where the antenna is, and who may know it.
func (i *interview) place(ctx context.Context, proposed string) (text string, err error) {
	var p *PositionConfig
	question := "2/5 Place      latitude, longitude, height in m; or a locator; empty: unknown:"
	if proposed != "" {
		question = "2/5 Place      latitude, longitude, height in m; or a locator; - unknown; as the receiver says:"
	}
	err = i.until(ctx, question, proposed, func(answer string) error {
		if p = nil; answer == "-" {
			return nil
		}
		var err error
		p, err = parsePlace(answer)
		return err
	})
	if err != nil || p == nil {
		return "", err
	}
	publish := map[string]string{"e": "exact", "1": "10km", "h": "hidden"}
	err = i.until(ctx, "               shown to others as: (e)xact, (1)0 km, (h)idden?", "1", func(answer string) error {
		if p.Publish = publish[strings.ToLower(answer[:1])]; p.Publish == "" {
			return fmt.Errorf("%q: want e, 1 or h", answer)
		}
		return nil
	})
	text = fmt.Sprintf("  position: {lat: %g, lon: %g, publish: %s", p.Lat, p.Lon, p.Publish)
	if p.HeightM != nil {
		text += fmt.Sprintf(", height_m: %g", *p.HeightM)
	}
	if p.UncertaintyM != nil {
		text += fmt.Sprintf(", uncertainty_m: %g", *p.UncertaintyM)
	}
	return text + "}\n", err
}

// network asks for the station's name and where to send what is heard. A code that is there already answers both.
func (i *interview) network(ctx context.Context) (id, broker string, err error) {
	if i.code != nil {
		fmt.Fprintf(i.out, "4/5 Send to    %s, certificate %s\n", i.code.Host, shortly(i.code.Authority))
		return i.enrol(ctx, *i.code, "")
	}
	err = i.until(ctx, "3/5 Name       station id", stationID(), func(answer string) error {
		id = answer
		return protocol.ValidStation(answer)
	})
	if err != nil {
		return "", "", err
	}
	for {
		station, broker, err := i.sendTo(ctx, id)
		if !errors.Is(err, errBack) {
			return station, broker, err
		}
	}
}

// sendTo asks where to send what is heard; errBack where the choice is taken back.
func (i *interview) sendTo(ctx context.Context, id string) (station, broker string, err error) {
	choice, address := "", ""
	err = i.until(ctx, "4/5 Send to    (c)ollector with a code, (b)roker of my own or its address, (n)owhere yet?", "n", func(answer string) error {
		if strings.Contains(answer, "://") {
			choice, address = "b", answer
			return nil
		}
		if choice = strings.ToLower(answer[:1]); !strings.Contains("cbn", choice) {
			return fmt.Errorf("%q: want c, b or n, or mqtt://host:1883", answer)
		}
		return nil
	})
	switch {
	case err != nil || choice == "n":
		return id, "", err
	case choice == "c":
		return i.join(ctx, id)
	}
	broker, err = i.broker(ctx, id, address)
	return id, broker, err
}

// broker tries a broker of one's own as it is, where its address is known. Otherwise, or where that does not do, it asks for its
// address and the account there.
func (i *interview) broker(ctx context.Context, id, address string) (text string, err error) {
	cfg, online := DefaultConfig(), false
	cfg.Station.ID = id
	try := func() error {
		var fault error
		cfg.checkMQTT(func(field, message string) { fault = errors.Join(fault, fmt.Errorf("%s: %s", field, message)) })
		if fault != nil {
			return fault
		}
		ctx, cancel := context.WithTimeout(ctx, brokerWait)
		defer cancel()
		if online, err = link.Probe(ctx, linkConfig(cfg)); err != nil {
			return errors.New(brokerFault(ctx, err))
		}
		return nil
	}
	if cfg.MQTT.URL = address; address != "" {
		if err = try(); err != nil {
			fmt.Fprintf(i.out, "               %v\n", err)
		}
	}
	if address == "" || err != nil {
		proposed := cmp.Or(address, "mqtt://127.0.0.1:1883")
		for err = errBack; err != nil; {
			cfg.MQTT.URL, err = i.ask(ctx, "               its address, n for another choice:", proposed)
			if err == nil && strings.EqualFold(cfg.MQTT.URL, "n") {
				err = errBack
			}
			if err != nil {
				return "", err
			}
			proposed = cfg.MQTT.URL
			if err = i.account(ctx, &cfg.MQTT, id); err == nil {
				err = try()
			}
			if ctx.Err() != nil || answers.Ended(err) {
				return "", err
			}
			if err != nil {
				fmt.Fprintf(i.out, "               %v\n", err)
			}
		}
	}
	if err != nil {
		return "", err
	}
	text = fmt.Sprintf("mqtt:\n  url: %s\n", cfg.MQTT.URL)
	if cfg.MQTT.Username != "" {
		text += fmt.Sprintf("  username: %q\n  password: %q\n", cfg.MQTT.Username, string(cfg.MQTT.Password))
	}
	if online {
		fmt.Fprintln(i.out, "               the broker answers, and a collector is there")
		return text, nil
	}
	fmt.Fprintln(i.out, "               the broker answers; no collector is there, so what it has taken counts as delivered (delivery.ack: broker)")
	return text + "  format: json\ndelivery:\n  ack: broker\n", nil
}

// account asks for the account at the broker. The password is not shown.
func (i *interview) account(ctx context.Context, m *MQTTConfig, id string) error {
	name, err := i.ask(ctx, "               account, - for none:", id)
	if err != nil {
		return err
	}
	if m.Username, m.Password = name, ""; name == "-" {
		m.Username = ""
		return nil
	}
	text, err := i.in.Hidden(ctx, i.out, "               password: ")
	m.Password = configs.Secret(text)
	return err
}

// start offers to make a service of it.
func (i *interview) start(ctx context.Context, m service.Manager) error {
	if err := m.Possible(); err != nil {
		_, err := fmt.Fprintf(i.out, "Start it: heimdall-agent run --config %s\n", m.Config)
		return err
	}
	yes, err := i.agree(ctx, "Start now and at boot?", true)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(i.out)
		return errors.New("stopped: the configuration is written, and `heimdall-agent service install` starts it now and at boot")
	}
	if err != nil || !yes {
		return err
	}
	if err := m.Enable(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(i.out, "%s; `sudo heimdall-agent status` says how it is\n", i.running(ctx, firstWait))
	return err
}

// firstWait is how long setup waits for the first record to arrive.
const firstWait = 30 * time.Second

// running says how far the agent that was started has come.
func (i *interview) running(ctx context.Context, patience time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	said := "started, but it does not answer yet"
	for {
		if st, err := askStatus(ctx, i.config.Spool.Path); err == nil {
			switch {
			case st.Broker.FirstAcknowledgedS > 0:
				return fmt.Sprintf("running: first record acknowledged after %.1f s", st.Broker.FirstAcknowledgedS)
			case i.config.MQTT.URL == "":
				return "running: what is heard is kept here, for want of a broker (mqtt.url)"
			}
			said = "running, but no record is acknowledged yet: " + st.Broker.String()
		}
		select {
		case <-ctx.Done():
			return said
		case <-tick.C:
		}
	}
}

const mostHeightM = 100_000

// parsePlace reads "45.03411 7.29310 612m" or a Maidenhead locator such as JN35ua; nil for nothing.
func parsePlace(text string) (*PositionConfig, error) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == ';' })
	switch len(parts) {
	case 0:
		return nil, nil
	case 1:
		return parseLocator(parts[0])
	case 2, 3:
	default:
		return nil, fmt.Errorf("%q: want latitude, longitude and height, such as 45.03411 7.29310 612m", text)
	}
	var numbers [3]float64
	for k, part := range parts {
		var err error
		if numbers[k], err = strconv.ParseFloat(strings.TrimSuffix(part, "m"), 64); err != nil || !(math.Abs(numbers[k]) <= mostHeightM) {
			return nil, fmt.Errorf("%q: want a number, such as 45.03411", part)
		}
	}
	p := &PositionConfig{Lat: numbers[0], Lon: numbers[1]}
	if len(parts) == 3 {
		p.HeightM = &numbers[2]
	}
	var fault error
	(&Config{Station: StationConfig{Position: p}}).checkPosition(func(field, message string) { fault = fmt.Errorf("%s: %s", field, message) })
	return p, fault
}
